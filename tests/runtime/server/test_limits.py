"""What one client may have at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import BusyError
from isthmus.runtime.server.limits import ClientLimits


def test_credit_is_shared_by_the_streams_of_a_client_and_by_nobody_else():
    limits = ClientLimits(streams=2, credit=3)
    limits.open_stream("a")
    limits.open_stream("a")
    with pytest.raises(BusyError, match="client a has 2 streams"):
        limits.open_stream("a")
    for _ in range(3):
        limits.take("a")
    with pytest.raises(BusyError, match="client a has 3 frames in flight"):
        limits.take("a")
    limits.take("b")
    limits.give("a", 2)
    limits.take("a")


def test_what_nobody_uses_is_forgotten():
    limits = ClientLimits(streams=1, credit=1)
    for number in range(1000):
        limits.open_stream(str(number))
        limits.take(str(number))
        limits.close_stream(str(number))
        limits.give(str(number))
    assert len(limits) == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=200))
def test_no_client_ever_has_more_than_its_credit_nor_less_than_nothing(steps):
    limits, held = ClientLimits(streams=1, credit=4), {"a": 0, "b": 0}
    for client, take in steps:
        if take:
            try:
                limits.take(client)
            except BusyError:
                assert held[client] == 4
            else:
                held[client] += 1
        elif held[client]:
            limits.give(client)
            held[client] -= 1
        assert all(0 <= frames <= 4 for frames in held.values())
    assert len(limits) == sum(frames > 0 for frames in held.values())
