from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.machines import Anchor, MachineProfile, NetworkCosts, OperatorSpeed


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


def test_classes_that_move_bytes_stand_in_for_one_another(
    make_profile: Callable[..., MachineProfile],
) -> None:
    conv, other = speed("conv", 1.0, 1.0), speed("other", 2.0, 2.0)
    profile = make_profile(operators=(conv, other))
    assert profile.speed("conv") is conv
    assert profile.speed("pool") is other
    assert make_profile(operators=(conv, speed("norm", None, 1.0))).speed("other") is not None
    assert profile.speed("depthwise") is None
    assert make_profile(operators=()).speed("conv") is None


def costs(*anchors: Anchor) -> NetworkCosts:
    return NetworkCosts(
        host="", backend="", clock="cpu", threads=1, rounds=1, whole_s=10.0, whole_spread_s=0.0,
        kernel_sum_s=10.0, node_s={"a": 1.0, "b": 3.0, "c": 6.0}, anchors=anchors,
    )  # fmt: skip


def anchor(before: float, head_extra_s: float, tail_extra_s: float) -> Anchor:
    return Anchor(tensor="t", before=before, head_extra_s=head_extra_s, tail_extra_s=tail_extra_s)


def test_without_anchors_a_half_is_the_sum_of_its_nodes() -> None:
    assert costs().head_s(["a", "b"]) == 4.0
    assert costs().tail_s(["c"]) == 6.0


def test_between_anchors_what_a_cut_adds_is_interpolated() -> None:
    table = costs(anchor(0.2, 1.0, 0.5), anchor(0.6, 3.0, 0.1))
    assert table.head_s(["a", "b"]) == pytest.approx(4.0 + 2.0)
    assert table.tail_s(["c"]) == pytest.approx(6.0 + 0.3)


def test_a_half_larger_than_any_anchors_takes_the_nearest_ones() -> None:
    table = costs(anchor(0.2, 1.0, 0.5), anchor(0.3, 3.0, 0.1))
    assert table.head_s(["a", "b"]) == pytest.approx(4.0 + 3.0)
    assert table.tail_s(["b", "c"]) == pytest.approx(9.0 + 0.5)


def test_a_half_smaller_than_any_anchors_takes_it_in_proportion() -> None:
    """A head of 4 s measured 1 s short says nothing of a head of 1 s but that it may be a quarter shorter."""
    table = costs(anchor(0.4, -1.0, 0.0), anchor(0.6, 0.0, 2.0))
    assert table.head_s(["a"]) == pytest.approx(1.0 - 0.25)
    assert table.tail_s(["a"]) == pytest.approx(1.0 + 0.5)


def test_whole_and_nothing_are_no_halves() -> None:
    table = costs(anchor(0.5, 1.0, 1.0))
    assert table.head_s(["a", "b", "c"]) == 10.0
    assert table.tail_s([]) == 0.0


def test_a_half_keeps_a_tenth_of_its_nodes() -> None:
    assert costs(anchor(0.1, -5.0, -9.0)).head_s(["a"]) == pytest.approx(0.1)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(-10, 10), st.floats(-10, 10)), max_size=6),
    st.sets(st.sampled_from("abc")),
)
def test_a_half_never_costs_nothing_or_more_than_the_dearest_anchor_says(
    places: list[tuple[float, float, float]], nodes: set[str]
) -> None:
    table = costs(*(anchor(*place) for place in sorted(places)))
    nodes_s = sum(table.node_s[key] for key in nodes)
    for half_s, index in ((table.head_s(nodes), 1), (table.tail_s(nodes), 2)):
        most = max([place[index] for place in places], default=0.0)
        assert half_s >= 0.1 * nodes_s - 1e-12
        assert half_s <= nodes_s + max(most, 0.0) + 1e-9
