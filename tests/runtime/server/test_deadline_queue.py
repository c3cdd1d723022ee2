import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.server.deadline_queue import DeadlineQueue


def _fill(queue, *frames):
    for name, rows, deadline_s in frames:
        assert queue.admit(rows)
        queue.push(name, rows=rows, deadline_s=deadline_s)


def _take(queue, max_rows, unwanted=()):
    return queue.take(max_rows, wanted=lambda name: name not in unwanted)


def test_the_earliest_deadline_comes_first_and_none_comes_last():
    queue = DeadlineQueue(10)
    _fill(queue, ("never", 1, None), ("late", 1, 9.0), ("soon", 1, 3.0), ("never too", 1, None))
    assert _take(queue, 10) == ["soon", "late", "never", "never too"]


def test_equal_deadlines_keep_their_order():
    queue = DeadlineQueue(10)
    _fill(queue, *((name, 1, 5.0) for name in "abcd"))
    assert _take(queue, 10) == list("abcd")


def test_a_batch_is_never_larger_than_asked_and_no_frame_is_split():
    queue = DeadlineQueue(10)
    _fill(queue, ("a", 2, 1.0), ("b", 3, 2.0), ("c", 1, 3.0))
    assert _take(queue, 4) == ["a"]
    assert _take(queue, 4) == ["b", "c"]


def test_expired_frames_leave_before_the_batch():
    queue = DeadlineQueue(10)
    _fill(queue, ("past", 1, 1.0), ("now", 1, 2.0), ("future", 1, 2.1), ("never", 1, None))
    assert queue.expire(2.0) == ["past", "now"]
    assert _take(queue, 10) == ["future", "never"]


def test_unwanted_frames_make_room_for_others():
    queue = DeadlineQueue(10)
    _fill(queue, ("gone", 3, 1.0), ("a", 3, 2.0))
    assert _take(queue, 3, unwanted={"gone"}) == ["a"]
    assert queue.held_rows == 0


def test_a_full_queue_admits_nothing_until_rows_leave():
    queue = DeadlineQueue(3)
    _fill(queue, ("a", 2, 1.0))
    assert not queue.admit(2)
    assert queue.admit(1)
    assert not queue.admit(1)
    queue.release(1)
    assert _take(queue, 2) == ["a"]
    assert queue.admit(3)


frames = st.lists(
    st.tuples(st.integers(1, 4), st.none() | st.floats(0, 10, allow_nan=False)), min_size=1, max_size=20
)


@given(frames, st.integers(4, 8), st.floats(0, 10))
def test_every_frame_leaves_exactly_once_in_order(arrivals, max_rows, now_s):
    queue = DeadlineQueue(1000)
    _fill(queue, *((index, rows, deadline) for index, (rows, deadline) in enumerate(arrivals)))
    deadline_of = [math.inf if deadline is None else deadline for _, deadline in arrivals]
    left = queue.expire(now_s)
    assert sorted(left) == [index for index, deadline in enumerate(deadline_of) if deadline <= now_s]
    while queue:
        batch = _take(queue, max_rows)
        assert batch, "a frame that fits an empty batch must be taken"
        assert sum(arrivals[index][0] for index in batch) <= max_rows
        left += batch
    assert sorted(left) == list(range(len(arrivals)))
    assert [deadline_of[index] for index in left] == sorted(deadline_of)
    assert queue.held_rows == 0


@pytest.mark.parametrize("capacity", [1, 5])
def test_the_bound_is_exact(capacity):
    queue = DeadlineQueue(capacity)
    assert queue.admit(capacity)
    assert not queue.admit(1)


def test_who_is_removed_makes_room_at_once_and_is_not_taken():
    queue = DeadlineQueue(2)
    assert queue.admit(2)
    gone, kept = (queue.push(name, rows=1, deadline_s=at_s) for name, at_s in (("gone", 1.0), ("kept", 2.0)))
    assert queue.remove(gone)
    assert not queue.remove(gone)
    assert (queue.held_rows, len(queue), queue.first_deadline_s) == (1, 1, 2.0)
    assert queue.admit(1)
    queue.release(1)
    assert queue.expire(1.5) == []
    assert _take(queue, 10) == ["kept"]
    assert not queue.remove(kept)
    assert (queue.held_rows, len(queue), queue.first_deadline_s) == (0, 0, math.inf)


def test_a_peek_shows_what_would_be_taken_and_takes_nothing():
    queue = DeadlineQueue(10)
    _fill(queue, ("a", 2, 1.0), ("b", 3, 2.0), ("c", 1, 3.0))
    assert [(place.deadline_s, place.rows) for place in queue.peek(5)] == [(1.0, 2), (2.0, 3)]
    assert _take(queue, 10) == ["a", "b", "c"]


def test_who_is_before_a_newcomer():
    queue = DeadlineQueue(10)
    _fill(queue, ("a", 2, 1.0), ("b", 3, 2.0), ("never", 1, None))
    assert [queue.rows_before(at_s) for at_s in (0.5, 1.0, 5.0, math.inf)] == [0, 2, 5, 6]
