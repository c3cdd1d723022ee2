from collections.abc import Callable

import pytest

from isthmus.runtime.machines import MachineProfile, OperatorSpeed


def speed(operator: str, flops_per_s: float | None, bytes_per_s: float | None) -> OperatorSpeed:
    return OperatorSpeed(
        operator=operator,  # type: ignore[arg-type]
        flops_per_s=flops_per_s,
        bytes_per_s=bytes_per_s,
        overhead_s=0.5,
        source="measured",
        origin="",
    )


def test_a_node_takes_overhead_compute_and_memory() -> None:
    assert speed("conv", 4.0, 10.0).seconds(8.0, 30) == pytest.approx(0.5 + 2.0 + 3.0)


def test_a_rate_that_did_not_show_costs_nothing() -> None:
    assert speed("conv", None, None).seconds(1e12, 10**12) == 0.5


def test_a_node_that_does_nothing_is_free() -> None:
    """A reshape only renames a buffer: it has no kernel whose overhead could be paid."""
    assert speed("other", 1.0, 1.0).seconds(0, 0) == 0.0


def test_a_class_without_a_speed_takes_that_of_other(make_profile: Callable[..., MachineProfile]) -> None:
    profile = make_profile(operators=(speed("conv", 1.0, 1.0), speed("other", 2.0, 2.0)))
    assert profile.speed("conv") is profile.operators[0]
    assert profile.speed("pool") is profile.operators[1]
    assert make_profile(operators=()).speed("conv") is None
