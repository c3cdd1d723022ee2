from __future__ import annotations

from typing import Any

import pytest

from isthmus.runtime.errors import InputError
from isthmus.runtime.simulation.fleet import (
    Arrivals,
    FleetWorld,
    LinkClass,
    Region,
    Service,
    Trial,
    run_fleet,
    size_fleet,
)


def fleet(**changes: Any) -> FleetWorld:
    facts: dict[str, Any] = {
        "devices": 20_000,
        "servers": 1,
        "fps": 1.0,
        "deadline_s": 0.1,
        "duration_s": 10.0,
        "service": Service(frame_s=0.001, batch_s=0.004),
        "links": (LinkClass(name="wire", share=1.0, before_s=(0.005,), transit_s=(0.005,)),),
        "regions": (Region(name="here", share=1.0, rtt_s=0.01),),
        "arrivals": Arrivals(pattern="poisson"),
    }
    return FleetWorld(**{**facts, **changes})


def test_the_number_found_is_enough_and_much_fewer_are_not() -> None:
    trials: list[Trial] = []
    sizing = size_fleet(fleet(), 0.99, note=trials.append)
    assert sizing.servers is not None
    assert sizing.chosen in trials
    assert sorted(trials, key=lambda trial: trial.devices_per_server) == list(sizing.trials)
    enough = run_fleet(fleet(servers=sizing.servers))
    assert enough.hit_share >= 0.985
    fewer = run_fleet(fleet(servers=round(sizing.servers * 0.85)))
    assert fewer.hit_share < 0.99
    # 20,000 frames a second at 32 a batch of 36 ms: 22.5 servers at the very least.
    assert sizing.servers > 22


def test_a_longer_deadline_needs_no_more_servers() -> None:
    short, long = (size_fleet(fleet(deadline_s=deadline_s), 0.95) for deadline_s in (0.06, 0.3))
    assert short.servers is not None
    assert long.servers is not None
    assert long.servers < short.servers


def test_what_the_links_forbid_no_server_can_give() -> None:
    sizing = size_fleet(fleet(deadline_s=0.02), 0.9)
    assert sizing.servers is None
    assert sizing.chosen is None
    assert sizing.best.mean < 0.1


def test_few_devices_share_one_server() -> None:
    assert size_fleet(fleet(devices=5), 0.9).servers == 1


@pytest.mark.parametrize("target", [0.0, 1.0, 2.0])
def test_a_target_is_a_share(target: float) -> None:
    with pytest.raises(InputError):
        size_fleet(fleet(), target)
