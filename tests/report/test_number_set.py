"""Frame numbers that occur twice are found, whatever their order and place."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isthmus.report import number_set
from isthmus.report.number_set import NumberSet

NUMBERS = st.lists(st.integers(0, 700_000), max_size=60)


def seen(numbers, parts=1):
    found = NumberSet()
    for part in np.array_split(np.array(numbers, dtype=np.int64), parts):
        if len(part):
            found.add(part)
    return found


@given(NUMBERS, st.integers(1, 4))
def test_repeated_numbers_are_those_beyond_the_first(numbers, parts):
    assert seen(numbers, parts).repeated == len(numbers) - len(set(numbers))


@given(NUMBERS, NUMBERS)
def test_two_sets_add_up(one, other):
    found = seen(one)
    found.merge(seen(other))
    assert found.repeated == len(one + other) - len(set(one + other))


def test_numbers_that_jump_about_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(number_set, "_MOST_CHUNKS", 2)
    found = seen([1, 10**7, 10**8, 1])
    assert not found.complete
    assert found.repeated == 1
