"""A radio's joules, computed by hand."""

import pytest

from isthmus.runtime.machines import RadioModel

RADIO = RadioModel(
    transmit_j_per_byte=2e-6, receive_j_per_byte=1e-6, tail_w=0.5, tail_s=0.2, source="published"
)


@pytest.mark.parametrize(
    ("next_s", "joules"),
    [
        (float("inf"), 0.002 + 0.0001 + 0.1),  # 1000 B, 100 B, and the whole tail of 0.2 s
        (0.05, 0.002 + 0.0001 + 0.025),  # the next transfer cuts the tail off
        (-1.0, 0.002 + 0.0001),
    ],
)
def test_a_transfer_pays_bytes_and_the_tail_that_is_not_cut_off(next_s, joules):
    assert RADIO.transfer_j(1000, 100, next_s=next_s) == pytest.approx(joules)


def test_tails_of_near_transfers_are_one():
    # Awake 0..0.3 (the second tail replaces the first one's rest) and 1.0..1.1, where the run ends.
    assert RADIO.awake_s([0.0, 0.1, 1.0], until_s=1.1) == pytest.approx(0.4)
    assert RADIO.awake_s([], until_s=5.0) == 0.0
