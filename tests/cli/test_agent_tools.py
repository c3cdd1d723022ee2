"""`isthmus agent` as a group: run from a file alone, status, doctor, bench-link, install-service."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

import isthmus
from isthmus import cli
from isthmus.cli import _agent_service
from isthmus.device_agents.operation.status import read_status, write_status


@pytest.fixture
def run(capfd):
    def call(*arguments):
        code = cli.run(["agent", *(str(argument) for argument in arguments)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def settings(tmp_path, tiny_bundle):
    """Return `write(**settings)`, which writes an agent's TOML file."""

    def write(**settings):
        settings = {"bundle": str(tiny_bundle), "source": "synthetic", "policy": "local", **settings}
        file = tmp_path / "agent.toml"
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if value is not None]
        file.write_text("\n".join(lines))
        return file

    return write


def test_a_file_says_it_all_and_run_may_be_left_out(run, settings):
    file = settings(frames=5, fps=50)
    for words in (["run", "-c", file], ["--config", file]):
        code, told, _ = run(*words, "--json")
        assert code == 0
        result = json.loads(told)
        assert (result["captured"], result["source"]) == (5, "synthetic")


def test_a_flag_wins_over_the_file(run, settings):
    code, told, _ = run("-c", settings(frames=5, fps=50), "--frames", 3, "--json")
    assert (code, json.loads(told)["captured"]) == (0, 3)


def test_without_a_bundle_it_says_so(run, settings):
    code, _, err = run("-c", settings(bundle=None))
    assert code == 3
    assert err.splitlines() == [
        'error: bundle is not set: give BUNDLE, or bundle = "…" in the file of --config'
    ]


def test_results_on_standard_output_have_it_for_themselves(run, settings):
    code, told, err = run("-c", settings(frames=4, fps=50, results="-"))
    assert code == 0
    results = [json.loads(line) for line in told.splitlines()]
    assert [result["outcome"] for result in results] == ["local"] * 4
    assert "4 frames: 4 local" in err
    code, _, err = run("-c", settings(frames=4, results="-"), "--json")
    assert (code, "both want standard output" in err) == (3, True)


def test_a_source_that_ends_ends_the_run(run, settings, tmp_path):
    import numpy as np

    file = tmp_path / "three.npz"
    np.savez(file, images=np.zeros((3, 16, 16, 1), np.uint8), labels=np.zeros(3, np.int64))
    code, told, _ = run("-c", settings(source=f"once:npz:{file}", fps=50), "--json")
    assert (code, json.loads(told)["captured"]) == (0, 3)


def test_status_of_a_run_that_ended(run, settings, tmp_path):
    status = tmp_path / "status.json"
    config = settings(frames=5, fps=50, status=str(status))
    assert run("-c", config, "--quiet")[0] == 0
    code, told, _ = run("status", "-c", config)
    assert code == 0
    assert told.startswith("ended for ")
    assert re.search(r"^5 frames: [1-5] local(, \d dropped)?; 0 open$", told, re.M)
    code, told, _ = run("status", status, "--json")
    assert (code, json.loads(told)["stale"], json.loads(told)["captured"]) == (0, False, 5)


def test_status_shows_watts_and_says_whether_they_are_measured(run, settings, tmp_path):
    status, joules = tmp_path / "status.json", tmp_path / "joules.jsonl"
    joules.write_text('{"at_s":0,"energy_j":0}\n{"at_s":3600,"energy_j":18000}\n')
    meter = {"energy": f"replay:{joules}", "energy_idle": "200ms"}
    assert run("-c", settings(duration="1s", fps=20, status=str(status), **meter), "--quiet")[0] == 0
    code, told, _ = run("-c", settings(frames=5, fps=20, **meter), "--json")
    assert (code, json.loads(told)["energy_source"]) == (0, f"replay:{joules}")
    assert json.loads(told)["energy_j"] > 0
    assert json.loads(told)["idle_w"] == pytest.approx(5.0, rel=0.05)
    (line,) = [line for line in run("status", status)[1].splitlines() if line.startswith("energy")]
    assert line.startswith("energy 5.00 W now, 5.00 W at rest, ")
    assert line.endswith(f" J so far (measured: replay:{joules})")
    unknown = msgspec.structs.replace(read_status(status), energy_j=None, power_w=None)
    write_status(status, unknown)
    assert f"energy unknown now (replay:{joules})" in run("status", status)[1]
    modelled = msgspec.structs.replace(unknown, energy_j=2.4, idle_w=None, energy_source="model:board")
    write_status(status, modelled)
    assert "energy 2 J so far (modelled: model:board)" in run("status", status)[1]


def test_the_doctor_tries_the_meter_that_is_asked_for(run, settings, tmp_path):
    missing = f"replay:{tmp_path / 'away.jsonl'}"
    code, told, _ = run("doctor", "-c", settings(server="127.0.0.1:1"), "--energy", missing, "--json")
    assert code == 7
    (finding,) = [one for one in json.loads(told)["findings"] if one["name"] == "energy meter"]
    assert finding["level"] == "fail"
    assert finding["text"].endswith("away.jsonl: No such file or directory")
    assert finding["remedy"] == "give a recording, as an agent's event log"


def test_the_summary_says_joules_per_frame_and_their_source(run, settings, tmp_path):
    joules = tmp_path / "joules.jsonl"
    joules.write_text('{"at_s":0,"energy_j":0}\n{"at_s":3600,"energy_j":18000}\n')
    meter = {"energy": f"replay:{joules}", "energy_idle": "0s"}
    code, told, _ = run("-c", settings(frames=5, fps=20, **meter), "--quiet")
    assert code == 0
    (line,) = [line for line in told.splitlines() if line.startswith("energy")]
    assert re.fullmatch(rf"energy: [0-9.]+ J, [0-9.]+ J a frame \(measured: replay:{joules}\)", line)


def test_a_meter_that_is_not_there_is_one_line(run, settings):
    code, _, err = run("-c", settings(frames=2, energy="wattmeter"))
    assert code == 3
    assert err.splitlines()[-1].startswith("error: energy meter 'wattmeter' is not known; give auto, none")


@pytest.mark.parametrize(("alive", "what"), [(True, "hangs"), (False, "was killed")])
def test_a_stale_status_is_exit_code_7(run, settings, tmp_path, monkeypatch, alive, what):
    status = tmp_path / "status.json"
    assert run("-c", settings(frames=2, fps=50, status=str(status)), "--quiet")[0] == 0
    old = msgspec.structs.replace(read_status(status), state="running", written_unix_s=time.time() - 60)
    write_status(status, old)
    monkeypatch.setattr(_agent_service, "_is_alive", lambda pid: alive)
    code, told, err = run("status", status)
    assert code == 7
    assert told.startswith("running for ")
    assert re.search(rf"written 6\d(\.\d)? s ago, so the agent \(process {old.pid}\) {what}", err)
    write_status(status, msgspec.structs.replace(old, written_unix_s=time.time()))
    assert run("status", status)[0] == 0


def test_no_status_is_one_line(run, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_AGENT_STATUS", str(tmp_path / "none.json"))
    code, _, err = run("status")
    assert code == 4
    assert "none.json: No such file" in err
    monkeypatch.delenv("ISTHMUS_AGENT_STATUS")
    code, _, err = run("status", "-c", settings())
    assert (code, "sets no status file" in err) == (3, True)


def test_doctor_names_what_fails_and_exits_7(run, settings):
    code, told, err = run("doctor", "-c", settings(server="127.0.0.1:1", connect_timeout="1s"))
    assert code == 7
    assert err.startswith("error: doctor: server 127.0.0.1:1: failed")
    lines = told.splitlines()
    assert any(line.startswith("ok   bundle: ") for line in lines)
    failed = next(index for index, line in enumerate(lines) if line.startswith("fail server 127.0.0.1:1: "))
    assert lines[failed + 1].startswith("     → start it with 'isthmus serve'")


def test_doctor_and_bench_link_against_a_real_server(run, settings, tiny_bundle):
    command = [sys.executable, "-m", "isthmus", "serve", str(tiny_bundle), "--port", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(isthmus.__file__).resolve().parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            address = f"127.0.0.1:{json.loads(server.stdout.readline())['port']}"
            code, told, err = run("doctor", "-c", settings(server=address), "--json")
            assert (code, json.loads(told)["failed"]) == (0, []), err
            found = {finding["name"]: finding for finding in json.loads(told)["findings"]}
            assert "model 'tiny', payloads over a stream" in found[f"server {address}"]["text"]
            assert "uplink about" in found[f"link to {address}"]["text"]
            code, told, _ = run("bench-link", address, "--model", "tiny", "--max-bytes", 400_000, "--json")
            report = json.loads(told)
            assert (code, report["clock"]) == (0, "server")
            assert report["rate_bytes_per_s"] > 1e5
            assert report["sent_bytes"] <= 400_000
            code, told, _ = run("bench-link", address, "--max-bytes", 100_000)
            assert told.startswith("RTT min/p50/p90/max: ")
        finally:
            server.terminate()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["bench-link", "nowhere"], 3, "give HOST:PORT"),
        (["bench-link", "127.0.0.1:1", "--duration", "2h"], 3, "no load generator"),
        (["bench-link", "127.0.0.1:1", "--max-bytes", "1"], 3, "no load generator"),
        (["bench-link", "127.0.0.1:1"], 5, "server 127.0.0.1:1: UNAVAILABLE"),
        (["bench-link"], 2, "argument"),
        (["doctor", "-c", "none.toml"], 3, "none.toml: No such file"),
        (["doctor", "--key", "absent.key"], 3, "--certificate and --key belong together"),
        (["install-service"], 2, "--config"),
        (["install-service", "-c", "none.toml"], 3, "none.toml: No such file"),
    ],
)
def test_bad_input_is_one_line_and_its_exit_code(run, arguments, code, message):
    actual, _, err = run(*arguments)
    assert actual == code
    assert message in err
    assert "Traceback" not in err


def test_install_service_prints_or_writes_and_calls_no_systemctl(run, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(_agent_service, "_systemctl", lambda *words: pytest.fail("systemctl was called"))
    file = settings()
    code, told, _ = run("install-service", "-c", file, "--dry-run")
    assert code == 0
    assert f"agent run --config {file} --quiet" in told
    assert list(tmp_path.glob("*.service")) == []
    code, said, _ = run("install-service", "-c", file, "--unit-dir", tmp_path, "--name", "cam-1")
    assert code == 0
    assert "systemctl enable --now cam-1.service" in said
    assert (tmp_path / "cam-1.service").read_text() == told.replace("isthmus-agent", "cam-1")
    code, _, err = run("install-service", "-c", file, "--unit-dir", tmp_path / "none")
    assert (code, "use sudo, or another --unit-dir" in err) == (3, True)


def test_enable_calls_systemctl(run, settings, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(_agent_service, "_systemctl", lambda *words: called.append(words))
    assert run("install-service", "-c", settings(), "--unit-dir", tmp_path, "--enable")[0] == 0
    assert called == [("daemon-reload",), ("enable", "--now", "isthmus-agent.service")]
