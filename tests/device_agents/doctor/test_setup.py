"""Findings about what the agent was told."""

import shutil
from collections import namedtuple

import pytest

from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.doctor import examine_setup


def _examine(**settings):
    findings, bundle = examine_setup(AgentConfig(**{"source": "synthetic", **settings}))
    return {finding.name: finding for finding in findings}, bundle


def test_a_good_setup(tiny_bundle, tmp_path):
    found, bundle = _examine(bundle=tiny_bundle, events=tmp_path / "e.jsonl", status=tmp_path / "s.json")
    assert {name: finding.level for name, finding in found.items()} == dict.fromkeys(
        ("providers", "bundle", "source", "event log", "status file"), "ok"
    )
    assert bundle.manifest.name == "tiny"
    assert "'tiny', 4 widths" in found["bundle"].text


@pytest.mark.parametrize(
    ("settings", "name", "says"),
    [
        ({"bundle": "NONE"}, "bundle", "no such bundle directory"),
        ({"bundle": "GOOD", "source": "npz:none.npz"}, "source", "No such file"),
        ({"bundle": "GOOD", "source": "webcam"}, "source", "source 'webcam'"),
        ({"energy": "replay:none.jsonl"}, "energy meter", "none.jsonl: No such file"),
        ({"energy": "wattmeter"}, "energy meter", "'wattmeter' is not known"),
        ({"provider": "tensorrt"}, "providers", "tensorrt is not among"),
        ({"events": "NONE/sub/e.jsonl"}, "event log", "No such file"),
    ],
)
def test_what_would_not_work_fails_with_a_remedy(tiny_bundle, tmp_path, settings, name, says):
    places = {
        "GOOD": tiny_bundle,
        "NONE": tmp_path / "none",
        "NONE/sub/e.jsonl": tmp_path / "none/sub/e.jsonl",
    }
    found, _ = _examine(**{key: places.get(value, value) for key, value in settings.items()})
    assert found[name].level == "fail"
    assert says in found[name].text
    assert found[name].remedy


def test_a_model_is_no_measurement():
    found, _ = _examine(energy="model:pi4")
    assert found["energy meter"].level == "ok"
    assert found["energy meter"].text.endswith(": modelled, not measured")


@pytest.mark.parametrize(
    ("free", "level"), [(10**12, "ok"), (200_000_000, "warn"), (2_000_000, "fail"), (0, "fail")]
)
def test_room_for_logs_is_time(monkeypatch, tmp_path, free, level):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**12, 0, free))
    found, _ = _examine(events=tmp_path / "e.jsonl", fps=30.0)
    assert found["event log"].level == level
