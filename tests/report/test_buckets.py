"""Counts over time: nothing is lost when buckets grow, and two counts add up."""

import itertools

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isthmus.report.buckets import TimeBuckets

# A subnormal instant over a bucket's width is 0, whatever its sign.
INSTANTS = st.floats(-50, 5_000, allow_subnormal=False)
EVENTS = st.lists(st.tuples(INSTANTS, st.integers(0, 4)), min_size=1, max_size=80)


def count(events, *, capacity=16, parts=1):
    buckets = TimeBuckets(capacity=capacity)
    for part in np.array_split(np.arange(len(events)), parts):
        at_s, channel = (
            np.array([events[i][0] for i in part]),
            np.array([events[i][1] for i in part], dtype=int),
        )
        buckets.add(at_s, channel)
    return buckets


def test_buckets_grow_twice_as_wide_when_a_run_outgrows_them():
    buckets = TimeBuckets(capacity=4)
    buckets.add(np.array([10.0]), np.array([0]))
    narrow_s = buckets.width_s
    buckets.add(np.array([10.0 + 5 * narrow_s]), np.array([1]))
    assert buckets.width_s == 2 * narrow_s
    assert buckets.counts.sum(axis=0).tolist() == [1, 1]


@settings(max_examples=80)
@given(EVENTS, st.integers(1, 5))
def test_every_event_lies_in_the_bucket_of_its_instant(events, parts):
    buckets = count(events, parts=parts)
    edges_s = buckets.edges_s()
    assert len(buckets.counts) <= 16
    for row, (low, high) in enumerate(itertools.pairwise(edges_s)):
        for channel in range(buckets.counts.shape[1]):
            inside = [at for at, kind in events if low <= at < high and kind == channel]
            assert buckets.counts[row, channel] == len(inside)
    assert buckets.counts.sum() == len(events)


@settings(max_examples=80)
@given(EVENTS, EVENTS)
@example(one=[(-17.0, 0)], other=[(-0.0078125, 0)])
def test_two_counts_add_up_to_that_of_both(one, other):
    merged, whole = count(one), count(one + other)
    merged.merge(count(other))
    assert merged.width_s == whole.width_s
    assert merged.edges_s().tolist() == whole.edges_s().tolist()
    assert merged.counts.tolist() == whole.counts.tolist()


def test_channels_can_be_renamed():
    renamed = count([(1.0, 0), (2.0, 2)]).with_channels(np.array([3, 1, 0]))
    assert renamed.counts.sum(axis=0).tolist() == [1, 0, 0, 1]
