"""Devices from their events; the dashboard's clock is 900 s ahead of the agents'."""

from pathlib import Path

import pytest

from isthmus.dashboard.fleet import Fleet
from isthmus.runtime.events import DeadlineEvent, EndEvent, ShapeEvent

SHIFT_S = 900.0


@pytest.fixture
def fleet():
    fleet = Fleet()
    fleet.tick(1000.0)
    return fleet


def played(fleet, events, *extra, key="cam", seconds=5, first_s=100.0, **frame):
    said = [events.run(first_s, agent="cam")]
    for second in range(seconds):
        for number in range(10):
            said.append(events.frame(first_s + second + number / 10, second * 10 + number, **frame))
        said.append(events.link(first_s + second + 0.95, energy_j=2.0 * second, energy_source="model:pi4"))
    for second in range(seconds):
        fleet.tick(first_s + SHIFT_S + second)
    fleet.take(key, [*said, *extra], shift_s=SHIFT_S)
    fleet.tick(first_s + SHIFT_S + seconds)
    return first_s + SHIFT_S + seconds


def test_the_present_of_a_device(fleet, events):
    now_s = played(fleet, events)
    columns = fleet.columns(now_s)
    assert columns["state"] == ["live"]
    assert columns["point"] == [[1, 8]]
    assert columns["rate"] == [20_000]
    assert columns["deadline"] == [1000]
    assert columns["p50"][0] == pytest.approx(400, rel=0.05)
    assert columns["outcomes"] == [[50, 0, 0, 0, 0]]
    assert columns["energy"] == [2000]  # 2 J in ten frames, in tenths of a millijoule
    totals = fleet.totals(now_s)
    assert (totals["devices"], totals["live"], totals["outcomes"]["remote"]) == (1, 1, 50)
    assert totals["payload_bytes_per_s"] == 50 * 120 // 5
    assert (totals["power_w"], totals["metered"], totals["modelled"]) == (pytest.approx(2.0), 1, 1)
    assert fleet.roster()[0]["name"] == "cam"


def test_the_last_two_minutes_of_a_device(fleet, events):
    now_s = played(fleet, events, DeadlineEvent(at_s=104.99, deadline_s=0.05))
    detail = fleet.detail(fleet.devices["cam"], now_s)
    assert len(detail["outcomes"]) == len(detail["rate"]) == len(detail["p50"]) == detail["seconds"]
    assert [sum(second) for second in detail["outcomes"][-5:]] == [10] * 5
    assert detail["width"][-5:] == [1] * 5
    assert detail["channels"][-5:] == [8] * 5
    assert detail["width"][-6] == -1
    assert detail["power"][-4:] == [2.0] * 4
    assert fleet.columns(now_s)["deadline"] == [500]
    names = [name for name, _, _ in detail["now"]["stages"]]
    assert names == ["head", "codec", "network", "server queue", "tail"]
    assert sum(seconds for _, _, seconds in detail["now"]["stages"]) == pytest.approx(0.031)


def test_a_probe_is_not_the_operating_point(fleet, events):
    probe = events.frame(104.97, 99, probe=True, reason="probe", point=None)
    now_s = played(fleet, events, probe, payload_bytes=0, outcome="exit")
    assert fleet.columns(now_s)["point"] == [[1, 0]]  # no channel: the device answers by itself


def test_silence_end_and_a_new_run(fleet, events):
    now_s = played(fleet, events)
    assert fleet.columns(now_s + 20)["state"] == ["silent"]
    fleet.take("cam", [EndEvent(at_s=105.0, captured=50, outcomes={})], shift_s=SHIFT_S)
    assert fleet.columns(now_s + 20)["state"] == ["ended"]
    version = fleet.version
    fleet.take("cam", [events.run(125.0, agent="cam", deadline_s=0.3)], shift_s=SHIFT_S)
    fleet.take(
        "cam", [events.run(125.0, agent="cam", deadline_s=0.3)], shift_s=SHIFT_S
    )  # as every post begins
    assert fleet.version == version + 1
    columns = fleet.columns(now_s + 20)
    assert (columns["state"], columns["deadline"], columns["point"]) == (["live"], [3000], [None])


def test_names_of_logs(fleet, events):
    for key, agent in (
        ("runs/a/events.jsonl", None),
        ("runs/b/events.jsonl", "pi"),
        ("runs/c/events.jsonl", "pi"),
    ):
        fleet.take(key, [events.run(100.0, agent=agent)], shift_s=SHIFT_S, log=Path(key))
    assert [device["name"] for device in fleet.roster()] == ["a", "pi", "pi · c"]


def test_the_true_rate_of_an_emulated_link_belongs_to_its_folder(fleet, events):
    now_s = played(fleet, events, key="run/events.jsonl")
    shapes = [ShapeEvent(at_s=at_s, rate_bytes_per_s=rate) for at_s, rate in ((90.0, 5e3), (103.0, 0.0))]
    fleet.take("run/link.jsonl", shapes, shift_s=SHIFT_S, log=Path("run/link.jsonl"))
    fleet.take("other/events.jsonl", [events.run(100.0)], shift_s=SHIFT_S, log=Path("other/events.jsonl"))
    detail = fleet.detail(fleet.devices["run/events.jsonl"], now_s)
    assert detail["link"][-5:] == [5e3, 5e3, 5e3, 0.0, 0.0]
    assert detail["link"][0] is None
    assert fleet.detail(fleet.devices["other/events.jsonl"], now_s)["link"] is None
    assert list(fleet.devices) == ["run/events.jsonl", "other/events.jsonl"]  # a link is no device


def test_an_unknown_meter_is_unknown(fleet, events):
    now_s = played(fleet, events, events.link(104.99))
    assert fleet.columns(now_s)["energy"] == [None]
    assert fleet.totals(now_s)["power_w"] is None
