"""Which server is next, with plain numbers for time."""

import random

import pytest

from isthmus.device_agents.uplink.roster import Roster
from isthmus.runtime.session import FullJitter


@pytest.fixture
def roster():
    return Roster(("a:1", "b:1", "c:1"), lambda: FullJitter(base_s=1.0, cap_s=8.0, rng=random.Random(1)))


def test_the_preferred_is_tried_first_and_the_next_when_it_fails(roster):
    first, wait_s = roster.choose(0.0)
    assert (first.address, first.rank, wait_s) == ("a:1", 0, 0.0)
    roster.failed(first, 0.0)
    second, wait_s = roster.choose(0.0)
    assert (second.address, wait_s) == ("b:1", 0.0)
    assert roster.preferred_to(second) == [first]


def test_when_all_have_failed_the_one_that_may_first_is_waited_for(roster):
    for _ in range(3):
        server, _ = roster.choose(0.0)
        roster.failed(server, 0.0)
    soonest, wait_s = roster.choose(0.0)
    assert 0 < wait_s <= 1.0
    assert soonest.not_before_s == pytest.approx(wait_s)
    # When all may be tried again the order counts, not who came first.
    assert roster.choose(10.0)[0].address == "a:1"


def test_pauses_grow_for_the_server_that_fails_and_end_with_an_answer(roster):
    server, _ = roster.choose(0.0)
    for _ in range(6):
        roster.failed(server, 0.0)
    assert server.backoff.ceiling_s == 8.0
    roster.answered(server)
    assert server.backoff.ceiling_s == 1.0


def test_a_server_that_is_ready_again_is_next(roster):
    server, _ = roster.choose(0.0)
    roster.failed(server, 0.0)
    roster.failed(server, 0.0)
    roster.welcome(server)
    assert roster.choose(0.0) == (server, 0.0)


def test_only_a_refusal_by_all_is_final(roster):
    errors = [ValueError(name) for name in "abc"]
    for error in errors[:2]:
        server, _ = roster.choose(0.0)
        roster.failed(server, 0.0, error)
    assert roster.unanimous() is None
    server, _ = roster.choose(0.0)
    roster.failed(server, 0.0, errors[2])
    assert roster.unanimous() is errors[0]
    roster.failed(server, 0.0)
    assert roster.unanimous() is None


def test_a_server_that_wants_to_be_left_alone_is(roster):
    server, _ = roster.choose(0.0)
    roster.failed(server, 10.0, retry_after_s=60.0)
    assert server.not_before_s == 70.0
    roster.failed(server, 10.0)
    assert server.not_before_s <= 18.0
