"""Who answers the profiler's frames: the device by itself, or the agent with a real server on loopback."""

import asyncio
import time

import numpy as np
import pytest

from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.device import Device
from isthmus.device_agents.pipeline import INLINE_S
from isthmus.device_agents.profiling.bundle_run import profile_bundle, profile_images
from isthmus.device_agents.profiling.device_target import DeviceTarget, Work, way_target
from isthmus.device_agents.profiling.figures import sum_over_latency
from isthmus.device_agents.profiling.linked_target import linked_target
from isthmus.device_agents.profiling.measuring import Extent
from isthmus.device_agents.profiling.scenarios import Load
from isthmus.device_agents.profiling.ways import Way, ways_of
from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.golden import golden_images

BRIEF = Extent(warm_up_s=0.2, least_s=0.2, most_s=10.0)
WIDEST = Way(kind="server", width_index=3, width=1.0, channels=4)


@pytest.fixture
def tiny_bank(banks, tiny):
    return banks[tiny.root]


def test_the_ways_of_a_bundle(tiny, serverless_mute):
    ways = ways_of(tiny, linked=True)
    points = len(tiny.points.records)
    assert [way.kind for way in ways] == ["server"] * points + ["exit"] * 4 + ["uncut"]
    assert ways[0].label == "0.25×1"
    assert ways[points].label == "0.25 exit"
    assert ways[-1].label == "uncut"
    assert ways[-1].point is None
    assert {way.kind for way in ways_of(serverless_mute, linked=False)} == {"payload"}
    (only,) = ways_of(tiny, linked=False, points=[OperatingPoint(width_index=1, channels=2)])
    assert (only.kind, only.label) == ("payload", "0.5×2")
    with pytest.raises(InputError, match=r"point 9,9: the bundle has no such point; it has 0,1"):
        ways_of(tiny, linked=False, points=[OperatingPoint(width_index=9, channels=9)])


@pytest.mark.parametrize(
    ("kind", "outcome", "stages"),
    [
        ("payload", "dropped", {"wait", "handover", "head", "codec"}),
        ("exit", "exit", {"wait", "handover", "head", "answer"}),
        ("uncut", "local", {"wait", "handover", "answer"}),
    ],
)
async def test_the_device_alone(tiny, tiny_bank, kind, outcome, stages):
    way = Way(kind=kind, width_index=None if kind == "uncut" else 2, width=0.75, channels=None)
    if kind == "payload":
        way = Way(kind=kind, width_index=2, width=0.75, channels=2)
    with way_target(way, Device(tiny, tiny_bank), golden_images(tiny)) as target:
        began_s = time.monotonic()
        sample = await target.ask(began_s - 0.5)
        ended_s = time.monotonic()
    assert sample.event.outcome == outcome
    assert sample.as_asked
    assert set(sample.stages()) == stages
    assert (sample.event.payload_bytes > 10) == (kind == "payload")
    # What it was asked late is waiting.
    assert 0.5 <= sample.stages()["wait"] <= sample.latency_s <= ended_s - began_s + 0.5
    assert sum_over_latency([sample]) == pytest.approx(1.0, abs=1e-6)


async def test_what_takes_long_runs_on_a_thread_and_the_next_frame_waits_for_it():
    def compute(frame):
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < 0.02:
            time.sleep(0.001)
        return Work(outcome="local", answer_s=time.perf_counter() - began_s)

    with DeviceTarget(compute, lambda: 10 * INLINE_S) as target:
        now_s = time.monotonic()
        futures = [target.ask(now_s) for _ in range(3)]
        assert not any(future.done() for future in futures)
        samples = await asyncio.gather(*futures)
    waits_s = [sample.stages()["wait"] for sample in samples]
    assert waits_s[0] < waits_s[1] < waits_s[2]
    assert waits_s[2] >= 0.04
    assert sum_over_latency(samples) == pytest.approx(1.0, abs=0.001)


async def test_what_is_short_is_answered_where_it_is():
    with DeviceTarget(lambda frame: Work(outcome="local", answer_s=0.0), lambda: 0.0) as target:
        assert target.ask(time.monotonic()).done()


async def test_the_server_answers_through_the_agents_own_parts(tiny, tiny_bank, scripted_server):
    server = await scripted_server()
    config = AgentConfig(source="profiled", server=server.address)
    images = golden_images(tiny)
    async with linked_target(WIDEST, config, tiny, tiny_bank, images) as target:
        samples = [await target.ask(time.monotonic()) for _ in range(20)]
        together = await asyncio.gather(*(target.ask(time.monotonic()) for _ in range(20)))
    assert all(sample.as_asked for sample in (*samples, *together))
    assert {sample.event.point for sample in samples} == {OperatingPoint(width_index=3, channels=4)}
    assert {"wait", "head", "codec", "send", "network", "tail"} <= set(samples[0].stages())
    # The images are taken in turn: their payloads are those of the images, not one and the same.
    assert len({sample.event.payload_bytes for sample in samples[: len(images)]}) > 1
    assert len(server.requests) == 40


async def test_a_server_that_is_not_there_is_one_line(tiny, tiny_bank, monkeypatch):
    monkeypatch.setattr("isthmus.device_agents.profiling.linked_target._CONNECT_S", 0.2)
    config = AgentConfig(source="profiled", server="127.0.0.1:1")
    with pytest.raises(NetworkError, match=r"server 127\.0\.0\.1:1: no connection.*isthmus serve"):
        async with linked_target(WIDEST, config, tiny, tiny_bank, golden_images(tiny)):
            pass


async def test_a_server_without_the_model_says_so(tiny, tiny_bank, scripted_server):
    server = await scripted_server(models={"another": (-1, 4, 4, 4)})
    config = AgentConfig(source="profiled", server=server.address)
    with pytest.raises(NetworkError, match="has no model 'tiny'"):
        async with linked_target(WIDEST, config, tiny, tiny_bank, golden_images(tiny)):
            pass


async def test_frames_a_server_fails_are_counted_as_astray(tiny, tiny_bank, scripted_server, replies):
    server = await scripted_server(reply=replies["expired"])
    config = AgentConfig(source="profiled", server=server.address)
    profile = await profile_bundle(
        tiny,
        [WIDEST],
        [Load(scenario="SingleStream")],
        config=config,
        bank=tiny_bank,
        images_nhwc=golden_images(tiny),
        extent=BRIEF,
    )
    (figures,) = profile.figures
    astray = {doubt.rule: doubt.detail for doubt in figures.doubts}["frames were not answered as asked"]
    assert int(astray) == figures.frames


async def test_a_profile_of_several_ways_and_scenarios(tiny, tiny_bank, scripted_server):
    server = await scripted_server()
    seen = []
    ways = [WIDEST, Way(kind="exit", width_index=0, width=0.25), Way(kind="uncut")]
    loads = [Load(scenario="SingleStream"), Load(scenario="Offline")]
    profile = await profile_bundle(
        tiny,
        ways,
        loads,
        config=AgentConfig(source="profiled", server=server.address),
        bank=tiny_bank,
        images_nhwc=golden_images(tiny),
        extent=BRIEF,
        progress=lambda what, share: seen.append((what, share)),
    )
    assert [(one.way.kind, one.scenario) for one in profile.figures] == [
        (way.kind, load.scenario) for way in ways for load in loads
    ]
    assert [share for _, share in seen] == pytest.approx([i / 6 for i in range(6)])
    for one in profile.figures:
        assert one.frames >= 100
        assert one.latency.p50_s <= one.latency.p90_s <= one.latency.p99_s
        rules = {doubt.rule for doubt in one.doubts}
        if one.way.kind == "server" and one.scenario == "SingleStream":
            # The scripted server says that it took 1.5 ms, and answers sooner.
            assert "the stages do not add up to the latency" in rules
        elif one.way.kind != "server":
            assert one.sum_over_latency == pytest.approx(1.0, abs=0.03)
            assert "the stages do not add up to the latency" not in rules
        assert one.energy is None
        assert one.conditions.rss_bytes > 1_000_000
    assert list(profile.figures[0].parts) == ["head", "codec", "link", "queue", "tail", "rest"]
    assert list(profile.figures[-1].parts) == ["tail", "rest"]
    # The scripted server says that everything arrived at the first nanosecond of its clock.
    assert profile.offset is not None
    assert profile.offset.surest.offset_s < 0
    assert len(profile.sections) == 6
    assert len(profile.moments) >= 12


def test_images_of_a_source(tiny, tiny_npz):
    assert profile_images(tiny, "golden").shape[1:] == (16, 16, 1)
    images = profile_images(tiny, f"npz:{tiny_npz}")
    assert (images.dtype, images.shape) == (np.uint8, (64, 16, 16, 1))
    assert len(profile_images(tiny, f"once:npz:{tiny_npz}")) == 48
    with pytest.raises(InputError, match="source"):
        profile_images(tiny, "nothing")
