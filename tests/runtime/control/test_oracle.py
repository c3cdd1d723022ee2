"""The clairvoyant against brute force: every combination of choices on small links."""

import itertools
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.control import Shipment, oracle
from isthmus.runtime.links import RateTrace, SimLink


def ship(utility, nbytes, ready_s, latest_s):
    return Shipment(utility=utility, nbytes=nbytes, ready_s=ready_s, latest_s=latest_s)


def carried(trace):
    return partial(trace.bytes_between, 0.0)


def brute_force(frames, trace):
    """Return the greatest utility over all combinations, each sent over the link frame by frame."""
    best = 0.0
    for choices in itertools.product(*([None, *range(len(shipments))] for _, shipments in frames)):
        total = worth(frames, trace, choices)
        best = max(best, -1.0 if total is None else total)
    return best


def worth(frames, trace, choices):
    """Return what `choices` are worth; None if one of them is late."""
    link, total = SimLink(trace), 0.0
    for (own, shipments), choice in zip(frames, choices, strict=True):
        if choice is None:
            total += own
            continue
        shipment = shipments[choice]
        if link.send(shipment.nbytes, shipment.ready_s) > shipment.latest_s + 1e-9:
            return None
        total += shipment.utility
    return total


def test_a_small_frame_now_leaves_room_for_a_large_one_later():
    trace = RateTrace([(10.0, 100.0)])
    # Taking 30 bytes for the first frame would make the second late; who looks one frame ahead knows.
    frames = [
        (0.1, [ship(0.5, 10, 0.0, 0.3), ship(0.6, 30, 0.0, 0.3)]),
        (0.1, [ship(0.9, 30, 0.1, 0.45)]),
    ]
    seen = oracle(frames, carried(trace))
    assert seen.utility == pytest.approx(1.4)
    assert seen.choices == (0, 0)


def test_nothing_crosses_a_dead_link():
    frames = [(0.3, [ship(0.9, 1, 0.0, 5.0)]), (0.2, [])]
    seen = oracle(frames, carried(RateTrace([(1.0, 0.0)])))
    assert (seen.utility, seen.choices) == (pytest.approx(0.5), (None, None))


def test_it_waits_for_the_end_of_an_outage_it_knows_of():
    trace = RateTrace([(1.0, 0.0), (1.0, 100.0)])
    frames = [(0.0, [ship(0.9, 10, 0.0, 1.09)]), (0.0, [ship(0.9, 10, 0.0, 1.11)])]
    assert oracle(frames, carried(trace)).choices == (None, 0)


def test_no_frames_are_worth_nothing():
    assert oracle([], carried(RateTrace([(1.0, 1.0)]))).utility == 0.0


segments = st.lists(
    st.tuples(st.floats(0.02, 0.5), st.one_of(st.just(0.0), st.floats(50.0, 2_000.0))), min_size=1, max_size=6
)


@st.composite
def instances(draw):
    frames, now_s = [], 0.0
    for _ in range(draw(st.integers(1, 5))):
        now_s += draw(st.floats(0.01, 0.2))
        shipments = [
            ship(
                draw(st.floats(0.0, 1.0)),
                draw(st.integers(1, 200)),
                now_s + draw(st.floats(0.0, 0.01)),
                now_s + draw(st.floats(0.01, 0.4)),
            )
            for _ in range(draw(st.integers(0, 3)))
        ]
        frames.append((draw(st.floats(0.0, 0.5)), shipments))
    return frames


@given(segments, instances())
def test_it_is_as_good_as_trying_everything(parts, frames):
    trace = RateTrace(parts)
    seen = oracle(frames, carried(trace))
    assert seen.utility == pytest.approx(brute_force(frames, trace), abs=1e-6)
    # And the choices it names are worth what it says, when they are sent.
    assert worth(frames, trace, seen.choices) == pytest.approx(seen.utility, abs=1e-6)
