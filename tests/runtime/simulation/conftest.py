"""A small table, links and policies for the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from isthmus.runtime.bundle import DeviceAnswer, OperatingPoint, PointRecord, PointTable
from isthmus.runtime.control import Decision, DeviceState, LinkEstimate
from isthmus.runtime.links import RateTrace
from isthmus.runtime.simulation import Constant, DeviceWorld


@pytest.fixture(scope="session")
def points() -> PointTable:
    """Return two widths with one point each: 1,000 and 2,000 bytes, without spread, and an early exit."""
    records = tuple(
        PointRecord(
            point=OperatingPoint(width_index=width, channels=4 * (width + 1)),
            utility=0.8 + width / 10,
            bytes_mean=1000.0 * (width + 1),
            bytes_p95=1000.0 * (width + 1),
            bytes_max=1000 * (width + 1),
            head_s=0.005 * (width + 1),
            energy_j=0.1 * (width + 1),
        )
        for width in range(2)
    )
    exits = tuple(DeviceAnswer(utility=0.6, compute_s=0.002, width_index=width) for width in range(2))
    return PointTable(
        measured_on="test", host="test", teacher_utility=0.95, records=records, exits=exits, tail_s=0.004
    )


@pytest.fixture(scope="session")
def make_world(points: PointTable) -> Callable[..., DeviceWorld]:
    """Return `make(**changes)`, which returns a world without any randomness but the images'."""

    def make(**changes: Any) -> DeviceWorld:
        facts: dict[str, Any] = {
            "trace": RateTrace([(1.0, 100_000.0)]),
            "points": points,
            "fps": 10.0,
            "deadline_s": 0.1,
            "duration_s": 2.0,
            "delay_s": 0.01,
            "overhead_bytes": 0,
            "encode_s": Constant(0.001),
        }
        return DeviceWorld(**{**facts, **changes})

    return make


class Always:
    """Sends every frame at one point, with a fallback or without."""

    name = "always"

    def __init__(self, point: OperatingPoint, fallback: Any = "exit") -> None:
        self.point, self.fallback = point, fallback
        self.asked: list[tuple[LinkEstimate, DeviceState, float, float]] = []

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        self.asked.append((link, device, budget_s, now_s))
        return Decision(
            action="send",
            point=self.point,
            probe=False,
            expected_utility=1.0,
            reason="always",
            fallback=self.fallback,
            fallback_s=0.002 if self.fallback else 0.0,
        )


@pytest.fixture(scope="session")
def always() -> type[Always]:
    """Return the policy that sends every frame."""
    return Always
