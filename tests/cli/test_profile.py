"""`isthmus profile`, as a user calls it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.cli import run
from isthmus.cli.eval import server_address
from isthmus.runtime.bundle import LOCAL, head_name, load_bundle
from isthmus.runtime.events import EventLog, FrameEvent
from isthmus.runtime.machines import load_machine

BRIEF = ["--duration", "20ms", "--warm-up", "20ms"]


@pytest.fixture
def profiled(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return `profiled(*arguments)`: the JSON result."""

    def call(*arguments: object) -> dict[str, Any]:
        capsys.readouterr()
        assert run(["profile", *map(str, arguments), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return `refused(*arguments)`: the one line that it says instead, and the exit code."""

    def call(*arguments: object) -> tuple[str, int]:
        capsys.readouterr()
        code = run(["profile", *map(str, arguments)])
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return " ".join(error.split()), code

    return call


@pytest.fixture
def five_watts(tmp_path: Path) -> Path:
    path = tmp_path / "joules.jsonl"
    path.write_text('{"at_s": 0.0, "energy_j": 0.0}\n{"at_s": 10000.0, "energy_j": 50000.0}\n')
    return path


def test_a_bundle_on_the_device_alone(
    profiled: Any, tiny_bundle: Path, five_watts: Path, tmp_path: Path
) -> None:
    machine, trace, file = tmp_path / "machine.json", tmp_path / "trace.json", tmp_path / "profile.json"
    flags = ["--energy", f"replay:{five_watts}", "--machine", machine, "--name", "board", "--trace", trace]
    found = profiled(tiny_bundle, *BRIEF, *flags, "--out", file)
    assert json.loads(file.read_text()) == found
    bundle = load_bundle(tiny_bundle)
    assert found["digest"] == bundle.digest
    assert (found["server"], found["seed"], found["threads"]) == (None, 1, 1)
    kinds = [one["way"]["kind"] for one in found["figures"]]
    assert kinds == ["payload"] * len(bundle.points.records) + ["exit"] * 4 + ["uncut"]
    for one in found["figures"]:
        assert one["frames"] >= 100
        assert one["latency"]["p50_s"] <= one["latency"]["p90_s"] <= one["latency"]["p99_s"]
        assert one["mlperf"] == {"metric": "latency_p90_s", "value": one["latency"]["p90_s"]}
        assert one["trusted"] == (one["doubts"] == [])
        assert one["energy"]["source"] == f"replay:{five_watts}"
    assert found["idle_w"] == pytest.approx(5.0, rel=0.1)
    # A meter that is read every tenth of a second cannot tell what a hundredth took.
    drawn_j = sum(one["energy"]["total_j"] for one in found["figures"])
    assert 0.0 <= drawn_j < 5.0 * (sum(one["elapsed_s"] for one in found["figures"]) + 0.3)
    assert found["files"] == [str(machine), str(trace), str(file)]
    assert found["clock"] == {"clock": "no server, or one that does not tell its clock"}
    assert json.loads(trace.read_text())["otherData"]["frames"] > 100


def test_its_device_profile_is_what_the_simulator_reads(
    profiled: Any, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = tmp_path / "machine.json"
    found = profiled(tiny_bundle, *BRIEF, "--point", "0,1", "--machine", machine)
    files = load_bundle(tiny_bundle).manifest.files
    costs = load_machine(machine).networks
    assert costs[files[head_name(0.25)]].whole_s == found["figures"][0]["stages"]["head"]["p50_s"]
    assert files[LOCAL] not in costs
    profiled(tiny_bundle, *BRIEF, "--machine", machine)
    assert set(load_machine(machine).networks) == {
        files[name] for name in files if name.startswith(("heads/", "exit", "local"))
    }
    flags = ["--trace", "constant:20kB", "--duration", "2s", "--seeds", "1", "--jobs", "1"]
    assert run(["simulate", str(tiny_bundle), "--device", str(machine), *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"]


def test_scenarios_and_points(profiled: Any, tiny_bundle: Path) -> None:
    flags = ["--point", "3,4", "--point", "0,1", "--scenario", "all", "--rate", "400", "--streams", "2"]
    found = profiled(tiny_bundle, *BRIEF, *flags, "--seed", "5")
    assert [(one["way"]["width_index"], one["scenario"]) for one in found["figures"]] == [
        (width, scenario)
        for width in (3, 0)
        for scenario in ("SingleStream", "MultiStream", "Server", "Offline")
    ]
    by_scenario = {one["scenario"]: one for one in found["figures"]}
    assert by_scenario["MultiStream"]["frames"] == 2 * by_scenario["MultiStream"]["queries"]
    assert by_scenario["MultiStream"]["mlperf"]["metric"] == "query_p99_s"
    assert by_scenario["Server"]["rate_per_s"] == 400
    assert by_scenario["SingleStream"]["rate_per_s"] is None
    assert by_scenario["Offline"]["mlperf"]["metric"] == "frames_per_s"
    assert found["seed"] == 5


def test_a_plain_network(profiled: Any, tiny_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    tail = tiny_bundle / "tail.onnx"
    found = profiled(tail, *BRIEF, "--budget", "300ms", "--energy", "none")
    (one,) = found["figures"]
    assert one["way"]["kind"] == "network"
    assert one["energy"] is None
    assert found["files"] == ["machine.json"]
    from isthmus.partitioner.costs.lookup import node_costs
    from isthmus.partitioner.network.model import load_network

    machine = load_machine(tmp_path / "machine.json")
    assert node_costs(load_network(tail), machine).whole_s > 0
    # A bundle's networks go into the same file, and a network's into a bundle's.
    profiled(tiny_bundle, *BRIEF, "--point", "0,1", "--machine", "machine.json")
    profiled(tiny_bundle / "local.onnx", *BRIEF, "--budget", "300ms", "--machine", "machine.json")
    assert len(load_machine(tmp_path / "machine.json").networks) == 3


def test_the_tables_fit_80_columns(
    tiny_bundle: Path, five_watts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    flags = ["--point", "0,1", "--scenario", "SingleStream", "--scenario", "MultiStream"]
    assert run(["profile", str(tiny_bundle), *BRIEF, *flags, "--energy", f"replay:{five_watts}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    head = next(line for line in printed if line.startswith("point"))
    assert head.split() == ["point", "B", "head", "codec", "rest", "total", "fps", "mJ"]
    rows = [line for line in printed if re.search(r" p\d\d +\d", line)]
    assert len(rows) == 6
    assert max(map(len, [head, *rows])) <= 80
    assert any(line.startswith("memory ") and "W at rest" in line for line in printed)


def test_what_cannot_be_profiled_is_one_line(refused: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    tail = tiny_bundle / "tail.onnx"
    for arguments, expected in (
        ([tmp_path / "none"], "no such file; give a bundle's directory or an ONNX file"),
        ([tiny_bundle, "--scenario", "Offlin"], "scenario 'Offlin': give SingleStream"),
        ([tiny_bundle, "--point", "7,7"], "point 7,7: the bundle has no such point; it has 0,1"),
        ([tiny_bundle, "--point", "wide"], "point 'wide': give WIDTHINDEX,CHANNELS"),
        ([tiny_bundle, "--dim", "n=1"], "--dim is about a MODEL.onnx"),
        ([tiny_bundle, "--energy", "nothing"], "energy meter 'nothing' is not known"),
        ([tiny_bundle, "--source", "nowhere"], "source 'nowhere'"),
        ([tiny_bundle, "--codec", "zip"], "codec 'zip'"),
        ([tiny_bundle, "--server", "nowhere"], "nowhere"),
        ([tail, "--server", "127.0.0.1:1"], "--server is about a bundle"),
        ([tail, "--point", "0,1"], "--point is about a bundle"),
        ([tiny_bundle, "--duration", "5"], "duration '5' is not a number with a unit"),
    ):
        said, code = refused(*arguments)
        assert expected in said, said
        assert code != 0
    damaged = tmp_path / "machine.json"
    damaged.write_text("{}")
    said, _ = refused(tiny_bundle, "--machine", damaged)
    assert "machine profile version None" in said
    said, _ = refused(tiny_bundle, *BRIEF, "--point", "0,1", "--out", tmp_path / "no" / "file")
    assert "choose another --out" in said


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    writer = EventLog(path)
    rng = np.random.default_rng(1)
    for number in range(200):
        captured_s, (head_s, remote_s) = 50.0 + number / 30, rng.uniform(0.002, 0.004, 2).tolist()
        writer.write(
            FrameEvent(
                at_s=captured_s + 0.001 + head_s + remote_s,
                frame=number,
                captured_s=captured_s,
                outcome="remote",
                latency_s=0.001 + head_s + remote_s,
                wait_s=0.001,
                head_s=head_s,
                remote_s=remote_s,
                server_received_s=captured_s + 0.001 + head_s + remote_s / 4 + 7.0,
                server_queue_s=remote_s / 4,
                server_compute_s=remote_s / 4,
            )
        )
    writer.write(FrameEvent(at_s=57.0, frame=200, captured_s=57.0, outcome="dropped"))
    writer.close()
    return path


def test_the_breakdown_of_a_run(log: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    assert run(["profile", "events", str(log), "--trace", str(trace), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["frames"], found["answered"]) == (201, 200)
    assert list(found["stages"]) == ["wait", "head", "network", "server queue", "tail", "total"]
    assert found["stages"]["wait"]["p50_s"] == pytest.approx(0.001)
    assert found["sum_over_latency"] == pytest.approx(1.0)
    assert found["clock"]["clock_offset_s"] == pytest.approx(7.0, abs=0.001)
    assert json.loads(trace.read_text())["otherData"]["frames_left_out"] == 0
    assert run(["profile", "events", str(log), "--skip", "150", "--frames", "20"]) == 0
    printed = capsys.readouterr().out
    assert "over the 20 of 20 frames" in printed
    assert "server's clock: +7.000" in printed
    assert max(len(line) for line in printed.splitlines()[:6]) <= 80


def test_a_log_without_answers_is_one_line(refused: Any, log: Path, tmp_path: Path) -> None:
    said, _ = refused("events", log, "--skip", "200")
    assert "no frame there was answered" in said
    said, _ = refused("events", tmp_path / "none.jsonl")
    assert "No such file" in said


def test_a_real_server(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    trace, file = tmp_path / "trace.json", tmp_path / "profile.json"
    flags = ["--point", "3,4", "--scenario", "SingleStream", "--scenario", "Offline"]
    with server_address(None, tiny_bundle) as address:
        flags += ["--server", address, "--trace", str(trace), "--out", str(file)]
        assert run(["profile", str(tiny_bundle), *BRIEF, *flags, "--energy", "none"]) == 0
    printed = capsys.readouterr().out
    head = next(line for line in printed.splitlines() if line.startswith("point"))
    assert head.split() == ["point", "B", "head", "codec", "link", "queue", "tail", "rest", "total", "fps"]
    assert "server's clock: " in printed
    found = json.loads(file.read_text())
    for one in found["figures"]:
        assert one["way"] == {"kind": "server", "width_index": 3, "width": 1.0, "channels": 4}
        assert set(one["stages"]) >= {"wait", "head", "codec", "send", "network", "server decode", "tail"}
        assert set(one["stages"]) >= {"server queue", "server answer"}
        # The same host, the same clock.
        assert one["sum_over_latency"] == pytest.approx(1.0, abs=0.03)
    clock = found["clock"]
    assert abs(clock["clock_offset_s"]) <= clock["clock_offset_uncertainty_s"] + 1e-5
    events = json.loads(trace.read_text())["traceEvents"]
    assert {event["pid"] for event in events if event["ph"] == "b"} == {1, 2}
