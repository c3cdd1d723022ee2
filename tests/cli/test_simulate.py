"""`isthmus simulate`, as a user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from isthmus.cli import run
from isthmus.cli._simulate_machine import machine_facts
from isthmus.cli._simulate_worlds import read_subject

FAST = ["--duration", "4s", "--fps", "20", "--seeds", "2", "--jobs", "1"]
FLEET = ["--tail-frame", "1ms", "--tail-batch", "4ms", "--duration", "4s", "--jobs", "1"]


@pytest.fixture
def result(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> dict[str, Any]:
        capsys.readouterr()
        assert run(["simulate", *map(str, arguments), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return call


def test_policies_over_traces_and_deadlines(result: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    flags = ["--trace", "constant:20kB", "--trace", "step:20kB@1s,0B@1s", "--policy", "expected-utility"]
    flags += [
        "--policy",
        "local",
        "--deadline",
        "150ms",
        "--deadline",
        "300ms",
        "--out",
        str(tmp_path / "out"),
    ]
    found = result(tiny_bundle, *flags, *FAST)
    rows = found["rows"]
    assert len(rows) == 2 * 2 * 2
    assert all(-0.01 <= row["regret"]["mean"] <= 1 for row in rows)
    steady = [row for row in rows if row["trace"] == "constant:20kB" and row["policy"] == "expected-utility"]
    assert all(row["hit_share"]["mean"] > 0.99 for row in steady)
    with (tmp_path / "out" / "runs.csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == 16
    assert json.loads((tmp_path / "out" / "rows.json").read_text()) == rows
    assert (tmp_path / "out" / "regret.svg").read_text().startswith("<?xml")
    logs = sorted((tmp_path / "out" / "logs").glob("*/events.jsonl"))
    assert len(logs) == 8
    assert run(["report", str(logs[0].parent), "--bundle", str(tiny_bundle)]) == 0


def test_a_bare_table_will_do(result: Any, tiny_bundle: Path) -> None:
    of_table, of_bundle = (
        result(path, "--policy", "local", *FAST)["rows"]
        for path in (tiny_bundle / "points.json", tiny_bundle)
    )
    assert of_table == of_bundle


def test_the_times_of_a_real_run(result: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    policy = ["--policy", "fixed:3,4"]
    flags = ["--trace", "constant:20kB", "--jitter", "5ms", "--out", tmp_path / "first"]
    result(tiny_bundle, *policy, *flags, *FAST)
    (log,) = (tmp_path / "first" / "logs").glob("*/events.jsonl")
    again = result(tiny_bundle, *policy, "--from-events", log, "--seeds", 1, "--duration", "4s")["rows"]
    assert [row["trace"] for row in again] == [str(log)]
    assert again[0]["remote_share"]["mean"] > 0.9


def test_another_machines_times(result: Any, tiny_bundle: Path) -> None:
    pytest.importorskip("onnx")
    here = result(tiny_bundle, "--trace", "constant:2MB", "--policy", "fixed:3,4", *FAST)["rows"][0]
    there = result(tiny_bundle, "--trace", "constant:2MB", "--policy", "fixed:3,4", "--device", "pi4", *FAST)[
        "rows"
    ][0]
    assert here["hit_share"]["mean"] >= there["hit_share"]["mean"]
    # The tiny bundle's table knows no joules; a profile's are modelled, and say so.
    assert (here["energy_j"], here["energy_source"]) == (None, None)
    assert there["energy_source"] == "model:pi4"
    # 2.7 W at rest alone, ten or more frames a second.
    assert 2.7 / 30 < there["energy_j"]["mean"] < 6.4


def test_a_frameworks_overhead_is_told_and_not_put_on_the_coder(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    subject = read_subject(tiny_bundle)
    facts = machine_facts(subject, "pi4")
    # Keras takes milliseconds for a layer however small; a loop over some hundred symbols does not.
    assert min(head.median_s for head in facts["head_s"].values()) > 2e-3
    assert facts["encode_s"].median_s < 1e-3
    assert "of the heads' time is what TensorFlow takes per layer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["raspberry-pi-5", "nano", "orin-nano", "laptop", "server-cpu", "server-gpu"]
)
def test_reference_machines_by_all_their_names(result: Any, tiny_bundle: Path, name: str) -> None:
    pytest.importorskip("onnx")
    flags = ["--trace", "constant:2MB", "--policy", "fixed:3,4", "--device", name]
    (row,) = result(tiny_bundle, *flags, *FAST)["rows"]
    assert row["remote_share"]["mean"] > 0.5
    # Of servers the watts at rest are not known: no joules, not some.
    assert (row["energy_j"] is None) == name.startswith("server")


def test_joules_and_their_label_fit_80_columns(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setenv("COLUMNS", "80")
    flags = ["--trace", "constant:2MB", "--device", "pi4", "--objective", "energy", *FAST]
    assert run(["simulate", str(tiny_bundle), *flags]) == 0
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert lines[0].split() == ["trace", "policy", "utility", "regret", "hits", "server", "sent", "J"]
    assert all(len(line) <= 80 for line in lines if not line.startswith(("simulated", "J:", "objective")))
    assert "J: joules per captured frame, modelled (model:pi4): resting and computing, with its radio" in told
    assert "deadline 150 ms" in told


def test_energy_is_no_objective_where_no_joules_are_known(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", str(tiny_bundle), "--objective", "energy", *FAST]) == 3
    said = capsys.readouterr().err
    assert "the joules of some points are unknown; name this device's profile (--device)" in said


def test_how_many_servers(result: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    found = result("fleet", "--devices", 20_000, "--hits", 0.95, "--out", tmp_path, *FLEET)
    assert 10 < found["sizing"]["servers"] < 100
    assert any("assumed" in note for note in found["notes"])
    assert {Path(file).name for file in found["files"]} == {"fleet.json", "sizing.csv", "sizing.svg"}


def test_a_fleet_with_its_servers(result: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    flags = ["--devices", 500, "--servers", 2, "--trace", "constant:40kB", "--region", "here:1:10ms"]
    flags += ["--policy", "fixed:3,4", "--arrivals", "poisson", "--out", tmp_path]
    found = result("fleet", tiny_bundle, *flags, *FLEET)
    counts = found["run"]
    ended = ("own", "quiet", "in_time", "late", "expired", "busy", "open")
    assert sum(counts[name] for name in ended) == counts["captured"]
    assert len(counts["moments"]) == 4
    assert {Path(file).name for file in found["files"]} == {"fleet.json", "seconds.csv", "seconds.svg"}


def test_servers_that_follow_the_load(result: Any) -> None:
    flags = ["--devices", 3000, "--link", "lte:1:4Mbit:0.3", "--autoscale", "0.5", "--start-up", "2s"]
    found = result("fleet", *flags, *FLEET, "--duration", "20s")
    assert found["run"]["moments"][-1]["servers"] > 1


def test_the_tail_is_measured_here(result: Any, tiny_bundle: Path) -> None:
    found = result("fleet", tiny_bundle, "--devices", 50, "--duration", "2s", "--jobs", "1")
    assert any("measured here" in note for note in found["notes"])
    assert found["tail"]["frame_s"] + found["tail"]["batch_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.json"], "nowhere.json"),
        (["BUNDLE", "--policy", "magic"], "magic"),
        (["BUNDLE", "--trace", "constant:fast"], "fast"),
        (["BUNDLE", "--deadline", "150"], "unit"),
        (["TABLE", "--device", "pi4"], "bare table"),
        (["fleet"], "--tail-frame"),
        (["fleet", *FLEET, "--link", "lte"], "NAME:SHARE:RATE"),
        (["fleet", *FLEET, "--link", "lte:x:1Mbit"], "'x'"),
        (["fleet", *FLEET, "--region", "far:1"], "NAME:SHARE:RTT"),
        (["fleet", *FLEET, "--arrivals", "never"], "diurnal"),
        (["fleet", *FLEET, "--trace", "outage"], "bundle"),
        (["fleet", *FLEET, "--hits", "2"], "0.99"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"BUNDLE": str(tiny_bundle), "TABLE": str(tiny_bundle / "points.json")}
    code = run(["simulate", *(paths.get(part, part) for part in arguments)])
    captured = capsys.readouterr()
    assert code not in (0, 1)
    assert said in captured.err
    assert captured.err.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in captured.err
