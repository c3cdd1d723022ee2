"""Delays that double and are spread over the whole interval."""

import random

from isthmus.runtime.session import FullJitter


def test_the_ceiling_doubles_up_to_the_cap_and_reset_starts_again():
    backoff = FullJitter(base_s=0.1, cap_s=1.0, rng=random.Random(1))
    ceilings = []
    for _ in range(6):
        ceilings.append(backoff.ceiling_s)
        assert 0.0 <= backoff.next_s() <= ceilings[-1]
    assert ceilings == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.ceiling_s == 0.1


def test_the_draws_cover_the_interval():
    backoff = FullJitter(base_s=1.0, cap_s=1.0, rng=random.Random(2))
    draws = [backoff.next_s() for _ in range(400)]
    assert min(draws) < 0.05
    assert max(draws) > 0.95


def test_days_of_attempts_do_not_overflow():
    backoff = FullJitter(base_s=0.1, cap_s=5.0)
    backoff.attempts = 100_000
    assert backoff.next_s() <= 5.0
