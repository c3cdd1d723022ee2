"""Several server processes under their supervisor, as a user runs them: killed, reloaded, stopped."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest

import isthmus
from isthmus.runtime.wire import (
    InferenceStub,
    channel_options,
    latent_request,
    oip,
    parse_answer,
    parse_stream_answer,
)

REPOSITORY = Path(isthmus.__file__).resolve().parents[1]
PATIENCE_S = 90
LATENT = np.full((1, 4, 4, 4), 100, np.uint8)


class Served:
    """A running `isthmus serve`: its process, its ready line, and its log, a parsed line at a time."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "isthmus", "serve", *map(str, arguments)]
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--threads", "1", "--json", "--json-logs"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = queue.SimpleQueue()
        self.seen = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        line = self.process.stdout.readline()
        self.ready = json.loads(line) if line else None

    def _read(self):
        for line in self.process.stderr:
            self.seen.append(line)
            self.lines.put(line)

    def wait_for(self, text, times=1):
        """Wait until the log has said `text` so often."""
        ends_s = time.monotonic() + PATIENCE_S
        while times:
            line = self.lines.get(timeout=max(0.1, ends_s - time.monotonic()))
            times -= text in line
        return line

    def workers(self):
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def stop(self, number=signal.SIGTERM):
        """Return what it said last."""
        self.process.send_signal(number)
        out = self.process.stdout.read()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return json.loads(out)

    def ask(self):
        """Return the answer to one frame over a new connection, which the kernel gives to either process."""
        address = f"127.0.0.1:{self.ready['port']}"
        with grpc.insecure_channel(address, options=channel_options()) as channel:
            request = latent_request(model="tiny", frame_id="1", latent_nchw=LATENT, budget_us=None)
            return parse_answer(InferenceStub(channel).ModelInfer(request, timeout=PATIENCE_S))


@pytest.fixture
def serve():
    started = []

    def start(*arguments):
        started.append(Served(*arguments))
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(FileNotFoundError):
            for pid in one.workers() if one.process.poll() is None else []:
                os.kill(pid, signal.SIGKILL)
        one.process.kill()
        one.process.wait(PATIENCE_S)
        one._reader.join(PATIENCE_S)
        one.process.stdout.close()
        one.process.stderr.close()


def test_a_killed_worker_is_replaced_and_the_others_count_on(serve, tiny_bundle):
    pytest.importorskip("prometheus_client")
    server = serve(tiny_bundle, "--processes", 2, "--metrics-port", 0)
    assert server.ready["processes"] == 2
    for _ in range(10):
        assert server.ask().outcome == "ok"
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    assert f"(process {victim}) died with signal 9; again in 0.1 s" in server.wait_for("died with")
    server.wait_for("is ready (process")
    assert len(server.workers()) == 2
    assert victim not in server.workers()
    for _ in range(10):
        assert server.ask().outcome == "ok"
    url = f"http://127.0.0.1:{server.ready['metrics_port']}/metrics"
    page = urllib.request.urlopen(url, timeout=PATIENCE_S).read().decode()
    # What the dead one had served is still counted.
    assert 'isthmus_frames_total{model="tiny",outcome="ok"} 20.0' in page.splitlines()
    stopped = server.stop()
    assert (stopped["event"], stopped["complete"], server.process.returncode) == ("stopped", True, 0)


def test_a_hanging_worker_is_replaced_and_its_clients_find_another(serve, tiny_bundle):
    server = serve(tiny_bundle, "--processes", 2, "--hung-after", "5s")
    victim = server.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    assert f"(process {victim}) gave no sign of life for 5 s; killed" in server.wait_for("no sign of life")
    server.wait_for("is ready (process")
    assert victim not in server.workers()
    assert len(server.workers()) == 2
    for _ in range(10):
        assert server.ask().outcome == "ok"
    assert server.stop()["complete"]


def test_load_and_unload_reach_every_worker(serve, tiny_bundle, make_tiny_bundle, tmp_path):
    repository = tmp_path / "repository"
    shutil.copytree(tiny_bundle, repository / "tiny")
    server = serve("--repository", repository, "--processes", 2)
    address = f"127.0.0.1:{server.ready['port']}"
    options = (*channel_options(), ("grpc.use_local_subchannel_pool", 1))

    def everywhere(ask):
        """Return what new connections are told; of twelve, one process gets all but once in 2,000."""
        said = []
        for _ in range(12):
            with grpc.insecure_channel(address, options=options) as channel:
                said.append(ask(InferenceStub(channel)))
        return set(said)

    def ready(name):
        return lambda stub: stub.ModelReady(oip.ModelReadyRequest(name=name), timeout=PATIENCE_S).ready

    make_tiny_bundle(repository / "second", name="second")
    assert everywhere(ready("tiny")) == {True}
    assert everywhere(ready("second")) == {False}
    with grpc.insecure_channel(address, options=options) as channel:
        stub = InferenceStub(channel)
        stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="second"), timeout=PATIENCE_S)
        assert everywhere(ready("second")) == {True}
        stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="tiny"), timeout=PATIENCE_S)
        assert everywhere(ready("tiny")) == {False}
        assert everywhere(ready("second")) == {True}
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_for("died with")
    server.wait_for("is ready (process")
    server.wait_for('"tiny: unloaded"')  # by the one that has just started, which found it on the disk
    assert everywhere(ready("tiny")) == {False}
    assert everywhere(ready("second")) == {True}


def test_a_stop_answers_every_accepted_frame_of_every_worker(serve, tiny_bundle):
    server = serve(tiny_bundle, "--processes", 2)
    answered, ended = [], []

    def stream(first):
        # A connection of its own, or all streams would go to one process.
        options = (*channel_options(), ("grpc.use_local_subchannel_pool", 1))
        with grpc.insecure_channel(f"127.0.0.1:{server.ready['port']}", options=options) as channel:
            call = InferenceStub(channel).ModelStreamInfer(_endless())
            try:
                for message in call:
                    assert parse_stream_answer(message).outcome == "ok"
                    answered.append(1)
                    first.set()
            except grpc.RpcError:
                ended.append((call.code(), call.details()))

    firsts = [threading.Event() for _ in range(6)]
    threads = [threading.Thread(target=stream, args=(first,)) for first in firsts]
    for thread in threads:
        thread.start()
    assert all(first.wait(PATIENCE_S) for first in firsts)
    stopped = server.stop()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert ended == [(grpc.StatusCode.UNAVAILABLE, "the server is draining; connect to another")] * 6
    assert stopped["complete"]
    assert stopped["outcomes"] == {"ok": len(answered)}, "every frame that was counted has reached its client"


def _endless():
    number = 0
    while True:
        yield latent_request(model="tiny", frame_id=str(number), latent_nchw=LATENT, budget_us=None)
        number += 1


def test_sighup_reloads_every_worker(serve, tiny_bundle, make_tiny_bundle, tmp_path):
    mine = shutil.copytree(tiny_bundle, tmp_path / "mine")
    newer = make_tiny_bundle(tmp_path / "newer", seed=9)
    server = serve(mine, "--processes", 2)
    before = server.ask().outputs_nc
    for file in sorted(newer.rglob("*"), key=lambda file: file.name == "manifest.json"):
        if file.is_file():
            shutil.copy(file, mine / file.relative_to(newer))
    server.process.send_signal(signal.SIGHUP)
    server.wait_for('"reloaded: tiny"', times=2)
    after = [server.ask().outputs_nc for _ in range(8)]
    assert all(np.array_equal(scores, after[0]) for scores in after)
    assert not np.allclose(before, after[0])
    assert server.stop()["outcomes"] == {"ok": 9}


def test_a_bundle_that_is_refused_is_one_line_and_its_exit_code(serve, tmp_path):
    server = serve(tmp_path / "nowhere", "--processes", 2)
    assert server.ready is None
    assert server.process.wait(PATIENCE_S) == 4
    server._reader.join(PATIENCE_S)
    errors = [line for line in server.seen if line.startswith("error:")]
    assert len(errors) == 1, server.seen
    assert "no such bundle directory" in errors[0]


def test_workers_end_when_their_supervisor_is_killed(serve, tiny_bundle):
    server = serve(tiny_bundle, "--processes", 2)
    workers = server.workers()
    server.process.kill()
    server.process.wait(PATIENCE_S)
    ends_s = time.monotonic() + PATIENCE_S
    while any(map(_is_alive, workers)):
        assert time.monotonic() < ends_s, "a worker without a supervisor serves on"
        time.sleep(0.05)


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
