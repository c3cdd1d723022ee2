from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.runtime.errors import InputError
from isthmus.runtime.simulation.fleet import (
    Arrivals,
    Autoscale,
    FleetRun,
    FleetWorld,
    LinkClass,
    Region,
    Service,
    run_fleet,
    tails,
)
from isthmus.runtime.simulation.fleet.run import parts

INSTANT = LinkClass(name="wire", share=1.0, before_s=(0.0,), transit_s=(0.0,))
HERE = (Region(name="here", share=1.0, rtt_s=0.0),)
LTE = LinkClass.of_rate(
    "lte", share=0.6, rate_bytes_per_s=60_000, payload_bytes=500, compute_s=0.01, sigma=0.5
)
WIFI = LinkClass.of_rate("wifi", share=0.4, rate_bytes_per_s=1e6, payload_bytes=500, compute_s=0.01)
REGIONS = (Region(name="near", share=0.7, rtt_s=0.02), Region(name="far", share=0.3, rtt_s=0.08))


def fleet(**changes: Any) -> FleetWorld:
    facts: dict[str, Any] = {
        "devices": 100,
        "servers": 1,
        "fps": 10.0,
        "deadline_s": 0.15,
        "duration_s": 10.0,
        "service": Service(frame_s=0.0003, batch_s=0.002),
        "links": (LTE, WIFI),
        "regions": REGIONS,
    }
    return FleetWorld(**{**facts, **changes})


def balance(run: FleetRun) -> int:
    return run.own + run.quiet + run.in_time + run.late + run.expired + run.busy + run.open


@pytest.fixture(scope="module")
def exact() -> ModuleType:
    """Return the event-by-event simulation that the benchmark compares with."""
    file = Path(__file__).parents[3] / "benchmarks" / "_fleet_exact.py"
    spec = importlib.util.spec_from_file_location("fleet_exact", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["fleet_exact"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_one_device_on_an_idle_server() -> None:
    world = fleet(devices=1, links=(INSTANT,), regions=HERE, fps=5.0)
    run = run_fleet(world)
    assert (run.captured, run.in_time, run.batches) == (50, 50, 50)
    assert run.latency_s(0.5) == pytest.approx(0.0023, rel=0.01)
    assert run.computed_s == pytest.approx(50 * 0.0023)
    assert run.utilisation == pytest.approx(50 * 0.0023 / 10)


def test_whoever_waits_goes_along_and_nobody_waits_for_company() -> None:
    # Every frame of a period comes at once: the first batch takes one frame, the second all the others.
    world = fleet(
        devices=8,
        fps=1.0,
        links=(INSTANT,),
        regions=HERE,
        service=Service(frame_s=0.001, batch_s=0.01, max_batch=32),
    )
    part = together(world)
    assert part.batches == 20
    assert part.mean_batch == 4.0
    # 1 + 7 frames: the first after 11 ms, the others after 11 + 17.
    assert part.latency_s(0.1) == pytest.approx(0.011, rel=0.01)
    assert part.latency_s(0.5) == pytest.approx(0.028, rel=0.01)


def test_a_full_queue_refuses_and_an_expired_frame_is_not_computed() -> None:
    service = Service(frame_s=0.0, batch_s=0.1, max_batch=1, queue_frames=2)
    run = together(fleet(devices=8, fps=1.0, links=(INSTANT,), regions=HERE, service=service, duration_s=1.0))
    # One runs, two wait, five are refused; the second begins at 100 ms, the third, at 200 ms, has expired.
    assert (run.in_time, run.late, run.expired, run.busy) == (1, 1, 1, 5)


def test_admission_by_prediction_refuses_what_would_be_late() -> None:
    service = Service(frame_s=0.0, batch_s=0.1, max_batch=1, queue_frames=8, admission="predicted")
    run = together(fleet(devices=8, fps=1.0, links=(INSTANT,), regions=HERE, service=service, duration_s=1.0))
    assert (run.in_time, run.late, run.expired, run.busy) == (1, 0, 0, 7)


def together(world: FleetWorld) -> FleetRun:
    """Run `world` with all devices in one phase."""
    return run_fleet(replace(world, arrivals=Arrivals(phases=(0.5,) * world.devices)))


def test_earliest_deadline_first() -> None:
    # While the first is computed three more come, each due sooner than the one before.
    service = Service(frame_s=0.0, batch_s=0.03, max_batch=1, queue_frames=64)
    tail = tails.Tails(service, servers=1, rng=np.random.default_rng(1))
    arrival = np.array([0.0, 0.001, 0.002, 0.003])
    deadline = np.array([0.5, 0.4, 0.3, 0.2])
    frames = np.stack([deadline, deadline, np.zeros(4), arrival])
    answers = tail.serve(1.0, frames, np.arange(4, dtype=np.int32), servers=1)
    assert answers.device.tolist() == [0, 3, 2, 1]


def test_what_held_everybody_up_at_one_instant_does_so_again() -> None:
    stalled = LinkClass(
        name="stalls", share=1.0, before_s=(0.0, 0.3, 0.0), transit_s=(0.0,) * 3, instants_s=(0.0, 5.0, 6.0)
    )
    world = fleet(devices=40, fps=1.0, links=(stalled,), regions=HERE, service=Service(frame_s=1e-6))
    run = run_fleet(world)
    # All that is captured in (0, 5] takes 300 ms, what comes later nothing.
    assert [moment.in_time for moment in run.moments] == [0] * 5 + [40] * 5
    assert run.late + run.expired == 200


def test_an_answer_may_be_late_on_its_way_back() -> None:
    link = LinkClass(name="down", share=1.0, before_s=(0.0, 0.0), transit_s=(0.0, 0.0), back_s=(0.0, 0.2))
    run = run_fleet(fleet(devices=40, links=(link,), regions=HERE, service=Service(frame_s=1e-6)))
    assert run.in_time / run.captured == pytest.approx(0.5, abs=0.03)
    assert run.late == run.captured - run.in_time
    assert run.latency_s(0.9) == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize("pattern", ["constant", "poisson", "diurnal", "bursts"])
def test_every_frame_is_accounted_for(pattern: Any) -> None:
    service = Service(frame_s=0.002, batch_s=0.002, max_batch=8, queue_frames=16, handling_s=0.001)
    arrivals = Arrivals(pattern=pattern, low=0.3, period_s=4.0, burst_s=1.0)
    world = fleet(devices=150, service=service, arrivals=arrivals)
    run = run_fleet(world)
    assert balance(run) == run.captured
    assert run.open == 0
    assert run.busy > 0
    assert run.quiet > 0
    share = {"constant": 1.0, "poisson": 1.0, "diurnal": 0.65, "bursts": 0.3 * 0.8 + 0.2}[pattern]
    assert run.captured == pytest.approx(15_000 * share, rel=0.1)
    assert sum(moment.sent for moment in run.moments) == run.captured - run.own - run.quiet


def test_the_same_seed_gives_the_same_run_whoever_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = fleet(servers=3, devices=1200, service=Service(frame_s=0.0008, batch_s=0.002, sigma=0.2))
    first = run_fleet(world)
    assert first.hit_share == run_fleet(world).hit_share
    assert first.hit_share != run_fleet(replace(world, seed=2)).hit_share
    monkeypatch.setattr(tails, "compiled", lambda: None)
    plain = run_fleet(world)
    for name in ("captured", "in_time", "late", "expired", "busy", "quiet", "batches", "computed_s"):
        assert getattr(plain, name) == getattr(first, name)
    assert (plain.histogram == first.histogram).all()


@pytest.mark.parametrize(
    ("devices", "changes"),
    [
        (100, {}),
        (450, {}),
        (450, {"arrivals": Arrivals(pattern="poisson")}),
        # Half as much again as it can do: full queues, refusals, frames that expire.
        (350, {"service": Service(frame_s=0.0004, batch_s=0.02, max_batch=16, queue_frames=32), "fps": 3.0}),
        (600, {"service": Service(frame_s=0.002, batch_s=0.002, max_batch=16, queue_frames=24)}),
    ],
    ids=["quiet", "regular", "poisson", "slow", "overloaded"],
)
def test_it_agrees_with_the_simulation_event_by_event(
    exact: ModuleType, devices: int, changes: dict[str, Any]
) -> None:
    world = fleet(devices=devices, duration_s=6.0, **changes)
    # Which device has which link is chance as well: several seeds.
    runs = [run_fleet(replace(world, seed=seed)) for seed in range(6)]
    truths = [exact.run_exact(world, seed=seed) for seed in range(6)]

    def both(figure: Callable[[Any], float]) -> tuple[float, float]:
        return fmean(map(figure, runs)), fmean(map(figure, truths))

    for figure, relative, absolute in (
        (lambda run: run.captured, 0.02, 0),
        (lambda run: run.hit_share, 0, 0.03),
        (lambda run: run.mean_batch, 0.04, 0),
        (lambda run: run.latency_s(0.5), 0.04, 0),
        (lambda run: run.latency_s(0.95), 0.05, 0),
        (lambda run: run.computed_s, 0.03, 0),
    ):
        found, wanted = both(figure)
        assert found == pytest.approx(wanted, rel=relative, abs=absolute)


def test_servers_follow_the_load() -> None:
    rule = Autoscale(target=0.5, every_s=2.0, start_s=4.0, down_after_s=6.0, least=1, most=8)
    world = fleet(
        devices=600,
        duration_s=60.0,
        service=Service(frame_s=0.0008, batch_s=0.0),
        arrivals=Arrivals(pattern="bursts", low=0.1, period_s=60.0, burst_s=30.0),
        autoscale=rule,
    )
    run = run_fleet(world)
    # A burst needs 600 × 10 × 0.8 ms = 4.8 servers' time, so 10 at half load, of which 8 may be had.
    servers = [moment.servers for moment in run.moments]
    assert servers[28] == 1
    assert servers[58] == 8
    assert servers == sorted(servers)
    # Burst over at 40 s: one server fewer every two seconds, six seconds after the load has gone.
    falling = replace(world, arrivals=Arrivals(pattern="bursts", low=0.1, period_s=40.0, burst_s=30.0))
    after = [moment.servers for moment in run_fleet(replace(falling, duration_s=50.0)).moments]
    assert after[39] == 8
    assert after[49] == 7
    assert balance(run) == run.captured
    assert run.server_s == pytest.approx(sum(servers))


def test_parts_add_up_and_none_is_without_devices():
    for devices in range(1, 20):
        for servers in range(1, 20):
            pieces = parts(fleet(devices=devices, servers=servers))
            assert sum(piece.devices for piece in pieces) == devices
            assert sum(piece.servers for piece in pieces) == servers


@settings(max_examples=40)
@given(
    devices=st.integers(1, 60),
    servers=st.integers(1, 12),
    frame_ms=st.floats(0.0, 30.0),
    batch_ms=st.floats(0.1, 60.0),
    max_batch=st.integers(1, 9),
    extra=st.integers(0, 9),
    predicted=st.booleans(),
    sent=st.floats(0.1, 1.0),
    seed=st.integers(0, 5),
)
def test_frames_are_conserved(devices, servers, frame_ms, batch_ms, max_batch, extra, predicted, sent, seed):
    service = Service(
        frame_s=frame_ms / 1e3,
        batch_s=batch_ms / 1e3,
        max_batch=max_batch,
        queue_frames=max_batch + extra,
        admission="predicted" if predicted else "queue",
    )
    link = replace(LTE, sent_share=sent)
    world = fleet(devices=devices, servers=servers, service=service, links=(link,), duration_s=2.0, seed=seed)
    run = run_fleet(world)
    assert balance(run) == run.captured == devices * 20
    assert run.open == 0
    assert int(run.histogram.sum()) == run.in_time + run.late
    assert run.computed_s == pytest.approx(
        run.batches * service.batch_s + (run.in_time + run.late) * service.frame_s
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: fleet(devices=0),
        lambda: fleet(deadline_s=0.004),
        lambda: fleet(links=()),
        lambda: Service(frame_s=0.0, batch_s=0.0),
        lambda: Service(frame_s=0.1, max_batch=8, queue_frames=4),
        lambda: Arrivals(low=1.5),
        lambda: Arrivals(period_s=1.0, burst_s=2.0),
        lambda: Arrivals(phases=(0.5, 1.0)),
        lambda: fleet(arrivals=Arrivals(phases=(0.5,))),
        lambda: LinkClass(name="a", share=1.0, before_s=(), transit_s=()),
        lambda: LinkClass(name="a", share=1.0, before_s=(0.1,), transit_s=(0.1,), instants_s=(0.0, 1.0)),
        lambda: LinkClass.of_rate("a", share=1.0, rate_bytes_per_s=0.0, payload_bytes=1.0),
    ],
)
def test_what_cannot_be_is_refused(make: Any) -> None:
    with pytest.raises(InputError):
        make()
