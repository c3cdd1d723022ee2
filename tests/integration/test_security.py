"""Servers and agents as real processes that do not, no longer, or again trust each other."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

import isthmus
from isthmus.runtime.wire import InferenceStub, latent_request, oip, parse_stream_answer

REPOSITORY = Path(isthmus.__file__).resolve().parents[1]
PATIENCE_S = 90
TOKEN, OTHER = "0123456789abcdef", "fedcba9876543210"
# The bundle can answer on the device as well, and the policy sees no need for a server.
_REMOTE = ("--policy", "fixed:3,4")


def _environment():
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def _run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "isthmus", *(str(argument) for argument in arguments)],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def serve(tiny_bundle):
    """Return `serve(*flags) -> address`, which starts a server of the tiny bundle."""
    started = []

    def start(*flags):
        command = [sys.executable, "-m", "isthmus", "serve", tiny_bundle, "--port", "0", "--threads", "1"]
        process = subprocess.Popen(
            [*(str(part) for part in command), "--json", *(str(flag) for flag in flags)],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        line = process.stdout.readline()
        assert line, process.stderr.read()
        return f"127.0.0.1:{json.loads(line)['port']}"

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def agent(tiny_bundle):
    """Return `agent(address, *flags)`, which runs an agent for 15 frames and returns the ended process."""

    def run(address, *flags):
        source = ["--source", "synthetic", "--fps", "30", "--frames", "15", "--deadline", "2s", *_REMOTE]
        return _run("agent", tiny_bundle, "--server", address, *source, "--quiet", "--json", *flags)

    return run


def _refused(process):
    """Return the one line with which an agent that is not trusted ends."""
    assert process.returncode == 8, process.stderr
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1, process.stderr
    return lines[0]


def _secret(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_the_flow_of_the_readme(serve, agent, tmp_path, tiny_bundle):
    folder = tmp_path / "certs"
    for arguments in (
        ["authority"],
        ["server", "gpu", "--host", "127.0.0.1"],
        ["device", "camera-1"],
    ):
        made = _run("certs", *arguments, "--folder", folder)
        assert made.returncode == 0, made.stderr
        assert "valid until" in made.stdout
    flags = ["--certificate", folder / "gpu.pem", "--key", folder / "gpu.key"]
    address = serve(*flags, "--client-authority", folder / "authority.pem")
    mine = ["--authority", folder / "authority.pem", "--certificate", folder / "camera-1.pem"]
    mine += ["--key", folder / "camera-1.key"]
    ended = agent(address, *mine)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["outcomes"]["remote"] > 0
    found = _run(
        "agent", "doctor", tiny_bundle, "--server", address, "--source", "synthetic", "--json", *mine
    )
    findings = {finding["name"]: finding["level"] for finding in json.loads(found.stdout)["findings"]}
    assert findings[f"certificate of {address}"] == "ok"
    assert findings[f"certificate {folder / 'camera-1.pem'}"] == "ok"
    measured = _run("agent", "bench-link", address, "--duration", "2s", "--json", *mine)
    assert json.loads(measured.stdout)["rtt_s"], measured.stderr
    revoked = _run("certs", "revoke", "camera-1", "--folder", folder)
    assert revoked.returncode == 0, revoked.stderr
    time.sleep(2.0)  # the server looks once a second
    assert _refused(agent(address, *mine)) == (
        f"error: server {address}: the certificate of 'camera-1' is revoked; ask who runs the server for "
        "another"
    )


def test_tokens_and_lists(serve, agent, tmp_path):
    tokens = _secret(tmp_path / "tokens", f"camera-1 {TOKEN}\ncamera-2 {OTHER}\n")
    allow = tmp_path / "allow.toml"
    allow.write_text('tiny = ["camera-1"]\n')
    address = serve("--token-file", tokens, "--allow", allow)
    good = agent(address, "--token-file", _secret(tmp_path / "good", TOKEN))
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["outcomes"]["remote"] > 0
    assert _refused(agent(address, "--token-file", _secret(tmp_path / "wrong", "x" * 16))) == (
        f"error: server {address}: the call carries an unknown token; give --token-file with the token of "
        "this client"
    )
    assert _refused(agent(address, "--token-file", _secret(tmp_path / "other", OTHER))) == (
        f"error: server {address}: client 'camera-2' may not use model 'tiny'; ask who runs the server to "
        "allow it"
    )


def test_an_expired_server_and_the_two_ends_of_plain_text(serve, agent, pki, pki_module):
    made = pki.server("old", days=-0.01)
    flags = pki_module.flags_of(pki.client())
    address = serve(*pki.serving_flags(server="old"))
    assert _refused(agent(address, *flags)) == (
        f"error: server {address}: its certificate expired on {made.not_after:%Y-%m-%d %H:%M} UTC; it must "
        "be renewed there, unless this clock is wrong"
    )
    assert _refused(agent(address)) == (
        f"error: server {address}: it speaks TLS, and this end plain text; give --authority with the file "
        "that vouches for it"
    )
    plain = serve()
    assert _refused(agent(plain, *flags)) == (
        f"error: server {plain}: it speaks plain text, and this end TLS; serve with --certificate and --key "
        "there, or give --insecure on a network you trust"
    )


def test_eval_says_in_one_line_why_it_is_not_trusted(serve, pki, tiny_bundle, tiny_images, tmp_path):
    images, labels = tiny_images
    np.savez(
        tmp_path / "t.npz",
        images=images,
        labels=labels,
        classes=np.array(["top-left", "top-right", "bottom"]),
    )
    address = serve(*pki.serving_flags())
    ended = _run("eval", tiny_bundle, "--dataset", f"npz:{tmp_path / 't.npz'}", "--server", address)
    assert _refused(ended).startswith(f"error: server {address}: it speaks TLS")
    ended = _run("agent", "bench-link", address, "--authority", pki.authority)
    assert _refused(ended) == (
        f"error: server {address}: it wants a certificate of this client; give --certificate and --key"
    )


def test_a_certificate_renewed_under_load_costs_no_frame(serve, pki):
    address = serve(*pki.serving_flags())
    security = pki.client()
    credentials = grpc.ssl_channel_credentials(
        security.authority.read_bytes(), security.key.read_bytes(), security.certificate.read_bytes()
    )
    latent = np.full((1, 4, 4, 4), 100, np.uint8)
    stop, enough, faults, answered = threading.Event(), threading.Event(), [], []

    def frame(number):
        return latent_request(model="tiny", frame_id=str(number), latent_nchw=latent, budget_us=None)

    def stream():
        """One stream for the whole time."""
        sent = 0

        def frames():
            nonlocal sent
            while not stop.is_set():
                sent += 1
                yield frame(sent)

        try:
            with grpc.secure_channel(address, credentials) as channel:
                got = [
                    parse_stream_answer(message).outcome
                    for message in InferenceStub(channel).ModelStreamInfer(frames(), timeout=PATIENCE_S)
                ]
            if got != ["ok"] * sent or not sent:
                faults.append(f"{len(got)} answers to {sent} frames: {set(got)}")
        except grpc.RpcError as error:
            faults.append(error)

    def newcomers():
        """A new connection for every frame."""
        while not stop.is_set():
            options = (("grpc.use_local_subchannel_pool", 1),)
            try:
                with grpc.secure_channel(address, credentials, options) as channel:
                    InferenceStub(channel).ModelInfer(frame(0), timeout=PATIENCE_S)
                answered.append(1)
            except grpc.RpcError as error:
                faults.append(error)
                return
            if len(answered) % 40 == 0:
                enough.set()

    threads = [threading.Thread(target=stream), threading.Thread(target=newcomers)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        enough.clear()
        assert enough.wait(PATIENCE_S) or faults
        pki.server(renew=True)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert faults == []
    assert len(answered) >= 100


def test_a_server_says_at_its_start_that_its_certificate_ends_soon(tiny_bundle, pki):
    pki.server(days=5)
    process = subprocess.Popen(
        [sys.executable, "-m", "isthmus", "serve", str(tiny_bundle), "--port", "0", *pki.serving_flags()],
        env={**_environment(), "COLUMNS": "400"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline().startswith("ready on ")
    finally:
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert "server.pem: expires on " in said
    assert "isthmus certs server" in said


def test_a_plain_client_hears_of_the_limit_on_connections(serve):
    address = serve("--max-connections", "1")
    with grpc.insecure_channel(address) as first:
        assert InferenceStub(first).ServerLive(oip.ServerLiveRequest(), timeout=PATIENCE_S).live
        options = (("grpc.use_local_subchannel_pool", 1),)
        with (
            grpc.insecure_channel(address, options) as second,
            pytest.raises(grpc.RpcError) as caught,
        ):
            InferenceStub(second).ServerLive(oip.ServerLiveRequest(), timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert InferenceStub(first).ServerLive(oip.ServerLiveRequest(), timeout=PATIENCE_S).live
