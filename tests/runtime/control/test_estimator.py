import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.control import LinkEstimator
from isthmus.runtime.control.estimator import OUTAGE_S

RTT_S = 0.02
SERVER_S = 0.005


class Feed:
    """An estimator behind a link of our choice; sizes are on the wire."""

    def __init__(self, rate=10_000.0, **options):
        self.estimator = LinkEstimator(overhead_bytes=0, **options)
        self.estimator.on_connected(0.0)
        self.rate = rate
        self.free_s = 0.0
        self.frame = 0

    def send(self, nbytes, now_s):
        """Send a frame; return its number and when its answer comes."""
        self.frame += 1
        self.estimator.on_sent(self.frame, nbytes, now_s)
        self.free_s = max(self.free_s, now_s) + nbytes / self.rate
        return self.frame, self.free_s + RTT_S + SERVER_S

    def answer(self, frame, at_s, server_received_ns=None):
        self.estimator.on_delivered(frame, at_s, server_received_ns=server_received_ns, server_s=SERVER_S)

    def exchange(self, sizes, start_s=0.0, gap_s=0.1):
        """Send frames one after the other, each answered before the next; return when it is over."""
        now_s = start_s
        for nbytes in sizes:
            frame, at_s = self.send(nbytes, now_s)
            self.answer(frame, at_s)
            now_s = max(now_s + gap_s, at_s)
        return now_s


def test_nothing_is_known_before_any_evidence():
    estimate = Feed().estimator.estimate(1.0)
    assert (estimate.connected, estimate.rate_bytes_per_s, estimate.rtt_s) == (True, None, None)
    assert (estimate.in_flight, estimate.backlog_bytes, estimate.oldest_age_s) == (0, 0, None)
    assert estimate.idle_s is None
    assert estimate.residuals == ()


def test_a_link_that_is_not_connected_is_dead_and_that_is_ordinary():
    estimate = LinkEstimator().estimate(1.0)
    assert (estimate.connected, estimate.rate_bytes_per_s) == (False, 0.0)


def test_the_first_answer_gives_a_lower_bound():
    feed = Feed()
    feed.exchange([200])
    # 20 ms of transmission and 20 ms of travel, all counted as transmission.
    assert feed.estimator.estimate(0.1).rate_bytes_per_s == pytest.approx(200 / 0.04)


def test_frames_of_two_sizes_give_rate_and_round_trip():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    estimate = feed.estimator.estimate(now_s)
    assert estimate.rate_bytes_per_s == pytest.approx(10_000, rel=0.01)
    assert estimate.rtt_s == pytest.approx(RTT_S, abs=1e-4)
    assert sorted(map(abs, estimate.residuals))[len(estimate.residuals) // 2] < 0.05


def test_the_rate_follows_within_a_few_frames():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    feed.rate = 2_000.0
    now_s = feed.exchange([100, 400] * 3, now_s)
    assert feed.estimator.estimate(now_s).rate_bytes_per_s == pytest.approx(2_000, rel=0.2)


def test_the_servers_clock_is_used_and_may_be_anywhere():
    feed = Feed()
    for number in range(12):
        now_s = number * 0.1
        frame, at_s = feed.send((100, 400)[number % 2], now_s)
        received_s = feed.free_s + 5_000.0
        # The way back is erratic: by our own clock the rate would be anything.
        feed.answer(frame, at_s + 0.03 * (number % 3), round(received_s * 1e9))
    assert feed.estimator.estimate(2.0).rate_bytes_per_s == pytest.approx(10_000, rel=0.01)


def test_backlog_is_what_exceeds_the_pipe():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    for nbytes in (300, 300, 300):
        feed.send(nbytes, now_s)
    estimate = feed.estimator.estimate(now_s)
    assert estimate.in_flight == 3
    assert estimate.backlog_bytes == pytest.approx(900 - 10_000 * RTT_S, abs=20)


def test_an_overdue_frame_lowers_the_rate_and_silence_ends_it():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    feed.send(200, now_s)
    due_s = RTT_S + SERVER_S
    on_time = feed.estimator.estimate(now_s + due_s + 0.015)
    late = feed.estimator.estimate(now_s + due_s + 0.1)
    later = feed.estimator.estimate(now_s + due_s + 0.5)
    dead = feed.estimator.estimate(now_s + due_s + OUTAGE_S + 0.01)
    assert on_time.rate_bytes_per_s == pytest.approx(10_000, rel=0.02)
    assert late.rate_bytes_per_s == pytest.approx(200 / 0.1, rel=0.02)
    assert later.rate_bytes_per_s == pytest.approx(200 / 0.5, rel=0.02)
    assert dead.rate_bytes_per_s == 0.0
    assert dead.oldest_age_s == pytest.approx(due_s + OUTAGE_S + 0.01)


def test_the_end_of_an_outage_tells_when_and_not_how_fast():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    known = feed.estimator.estimate(now_s).rate_bytes_per_s
    frame, at_s = feed.send(200, now_s)
    assert feed.estimator.estimate(at_s + 2.0).rate_bytes_per_s == 0.0
    feed.answer(frame, at_s + 3.0)
    assert feed.estimator.estimate(at_s + 3.0).rate_bytes_per_s == known
    # But it was wrong, and that counts as a risk.
    assert feed.estimator.estimate(at_s + 3.0).residuals[0] == -1.5


def test_a_slow_frame_on_a_link_known_to_be_slow_is_no_outage():
    feed = Feed(rate=300.0)
    now_s = feed.exchange([100, 400] * 4, gap_s=3.0)
    assert feed.estimator.estimate(now_s).rate_bytes_per_s == pytest.approx(300, rel=0.02)


def test_a_new_connection_knows_nothing_of_the_rate_but_keeps_the_errors():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    feed.send(100, now_s)
    feed.estimator.on_disconnected(now_s)
    assert feed.estimator.estimate(now_s).rate_bytes_per_s == 0.0
    assert feed.estimator.estimate(now_s).in_flight == 0
    feed.estimator.on_connected(now_s + 1)
    estimate = feed.estimator.estimate(now_s + 1)
    assert (estimate.rate_bytes_per_s, estimate.rtt_s) == (None, None)
    assert len(estimate.residuals) == 11


def test_an_answer_acknowledges_all_that_was_sent_before():
    feed = Feed()
    feed.exchange([100, 400] * 6)
    feed.send(100, 2.0)
    feed.send(200, 2.0)
    third, at_s = feed.send(300, 2.0)
    feed.send(100, 2.0)
    feed.answer(third, at_s)
    estimate = feed.estimator.estimate(at_s)
    assert estimate.in_flight == 1
    assert estimate.rate_bytes_per_s == pytest.approx(10_000, rel=0.02)  # 600 bytes, not 300, in 60 ms


def test_repeated_unknown_and_overtaken_answers_change_nothing():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    first, _ = feed.send(100, now_s)
    second, at_s = feed.send(100, now_s)
    feed.answer(second, at_s)
    before = feed.estimator.estimate(at_s)
    for frame in (first, second, 999):
        feed.answer(frame, at_s)
    assert feed.estimator.estimate(at_s) == before


def test_overhead_counts_on_every_frame_and_is_passed_on():
    estimator = LinkEstimator(overhead_bytes=100)
    estimator.on_connected(0.0)
    estimator.on_sent(1, 50, 0.0)
    estimate = estimator.estimate(0.0)
    assert estimate.backlog_bytes == 150
    assert estimate.overhead_bytes == 100


def test_fast_answers_to_small_frames_are_only_a_lower_bound():
    feed = Feed(rate=1e6)
    now_s = feed.exchange([2_000, 20_000] * 6)
    known = feed.estimator.estimate(now_s).rate_bytes_per_s
    assert known == pytest.approx(1e6, rel=0.05)
    for _ in range(10):  # 100 bytes take 0.1 ms and 1 ms of scheduling: not evidence of 90 kB/s
        frame, at_s = feed.send(100, now_s)
        feed.answer(frame, at_s + 1e-3)
        now_s += 0.1
    assert feed.estimator.estimate(now_s).rate_bytes_per_s >= 0.9 * known


def test_equal_frames_that_never_queue_prove_only_what_they_took():
    feed = Feed(rate=1e6)
    now_s = 0.0
    for _ in range(20):
        frame, at_s = feed.send(1_000, now_s)
        feed.answer(frame, at_s, round((feed.free_s + 77.0) * 1e9))
        now_s += 0.1
    # A millisecond of transmission in 21 of round trip: they show 48 kB/s, and four times that is tried.
    proven = 1_000 / (RTT_S + 1e-3)
    assert proven < feed.estimator.estimate(now_s).rate_bytes_per_s <= 4 * proven * (1 + 1e-6)
    # Frames of another size tell the two apart.
    now_s = feed.exchange([20_000, 1_000] * 8, now_s)
    assert feed.estimator.estimate(now_s).rate_bytes_per_s == pytest.approx(1e6, rel=0.1)


def test_frames_that_wait_on_the_device_count_as_backlog():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    feed.send(300, now_s)
    estimate = feed.estimator.estimate(now_s, queued_frames=2, queued_bytes=700)
    assert estimate.in_flight == 3
    assert estimate.unanswered_bytes == 1_000
    assert estimate.backlog_bytes == pytest.approx(1_000 - 10_000 * RTT_S, abs=20)


def test_what_the_link_has_been_at_the_unanswered_bytes_counts_from_the_last_departure():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    first, first_at_s = feed.send(300, now_s)
    feed.send(300, now_s)
    # 30 ms for the first; its answer is there 25 ms later, and since then the link has been at the second.
    feed.answer(first, first_at_s)
    estimate = feed.estimator.estimate(first_at_s)
    assert estimate.serving_s == pytest.approx(RTT_S + SERVER_S, abs=6e-3)
    assert estimate.unanswered_bytes == 300


def test_the_samples_are_those_of_this_connection():
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    estimate = feed.estimator.estimate(now_s)
    assert estimate.delivered == 12
    assert estimate.samples[-3:] == pytest.approx((10_000,) * 3, rel=0.01)
    feed.estimator.on_connected(now_s)
    assert feed.estimator.estimate(now_s).samples == ()


events = st.lists(
    st.tuples(
        st.sampled_from(["sent", "delivered", "connected", "disconnected", "asked"]),
        st.integers(0, 12),
        st.integers(0, 100_000),
        st.floats(0.0, 2.0),
    ),
    max_size=60,
)


@given(events, st.booleans())
def test_no_history_makes_an_impossible_estimate(history, server_clock):
    estimator, now_s = LinkEstimator(), 0.0
    for kind, frame, nbytes, gap_s in history:
        now_s += gap_s
        if kind == "sent":
            estimator.on_sent(frame, nbytes, now_s)
        elif kind == "delivered":
            # The server's clock is even allowed to be nonsense.
            received_ns = nbytes * 1_000_000 if server_clock else None
            estimator.on_delivered(frame, now_s, server_received_ns=received_ns, server_s=gap_s / 2)
        elif kind == "connected":
            estimator.on_connected(now_s)
        elif kind == "disconnected":
            estimator.on_disconnected(now_s)
        estimate = estimator.estimate(now_s)
        rate = estimate.rate_bytes_per_s
        assert rate is None or (rate >= 0 and math.isfinite(rate))
        assert estimate.rtt_s is None or estimate.rtt_s >= 0
        assert estimate.backlog_bytes >= 0
        assert estimate.in_flight >= 0
        assert (estimate.oldest_age_s is None) == (estimate.in_flight == 0)
        assert estimate.ceiling_bytes_per_s > 0
        assert estimate.steady_rate_bytes_per_s is None or estimate.steady_rate_bytes_per_s > 0
        assert estimate.unanswered_bytes >= 0
        assert all(sample > 0 for sample in estimate.samples)
        assert list(estimate.residuals) == sorted(estimate.residuals)
        # Bounded: a policy must neither despair of one stall nor hope for one lucky sample.
        assert all(-1.5 <= residual <= 0.7 for residual in estimate.residuals)
        assert estimate.connected or rate == 0.0


@given(st.floats(500, 1e6), st.floats(500, 1e6))
def test_more_bytes_in_the_same_time_never_mean_a_lower_rate(rate_a, rate_b):
    def believed(rate):
        feed = Feed(rate=rate)
        now_s = feed.exchange([1_000, 4_000] * 5, gap_s=20.0)
        return feed.estimator.estimate(now_s).rate_bytes_per_s

    low, high = sorted((rate_a, rate_b))
    assert believed(low) <= believed(high) * (1 + 1e-6)


@given(st.lists(st.floats(0.0, 3.0), min_size=2, max_size=8))
def test_silence_never_raises_the_rate(waits_s):
    feed = Feed()
    now_s = feed.exchange([100, 400] * 6)
    feed.send(200, now_s)
    rates = [feed.estimator.estimate(now_s + wait_s).rate_bytes_per_s for wait_s in sorted(waits_s)]
    assert rates == sorted(rates, reverse=True)


@given(
    st.floats(1_000, 1e6),
    st.floats(1_000, 1e6),
    st.floats(0.5, 60.0),
    st.lists(st.integers(100, 2_000), min_size=4, max_size=20),
    st.booleans(),
)
def test_two_frames_after_any_outage_the_rate_is_known_again(before, after, outage_s, sizes, server_clock):
    """Whatever the link was before: two answers after its return the rate is right within a factor of 1.5."""
    feed = Feed(rate=before)

    def exchange(nbytes, now_s):
        frame, at_s = feed.send(nbytes, now_s)
        feed.answer(frame, at_s, round((feed.free_s + 7.0) * 1e9) if server_clock else None)
        return max(now_s + 0.1, at_s)

    now_s = 0.0
    for nbytes in [200, 1_500, *sizes]:
        now_s = exchange(nbytes, now_s)
    stuck, _ = feed.send(500, now_s)
    assert feed.estimator.estimate(now_s + 10.0 + 500 / min(before, after)).rate_bytes_per_s == 0.0
    back_s = now_s + outage_s + 10.0 + 500 / before
    feed.rate, feed.free_s = after, back_s
    feed.answer(stuck, back_s + RTT_S + SERVER_S, round((back_s + 7.0) * 1e9) if server_clock else None)
    now_s = back_s + RTT_S + SERVER_S
    for nbytes in (1_500, 1_500):
        now_s = exchange(nbytes, now_s)
    believed = feed.estimator.estimate(now_s).rate_bytes_per_s
    assert after / 1.5 <= believed <= after * 1.5


def test_an_update_costs_microseconds():
    feed = Feed()
    for number in range(300):
        frame, at_s = feed.send(100 + 10 * (number % 30), number * 0.05)
        feed.answer(frame, at_s)
    fastest, now_s = math.inf, 100.0
    for _ in range(20):
        begin_s = time.perf_counter()
        for _ in range(20):
            now_s += 0.05
            feed.estimator.on_sent(1_000, 300, now_s)
            feed.estimator.on_delivered(
                1_000, now_s + 0.03, server_received_ns=round((now_s + 9.02) * 1e9), server_s=0.004
            )
        fastest = min(fastest, (time.perf_counter() - begin_s) / 20)
    assert fastest < 20e-6 * 4  # the target is 20 µs; the rest is for slow and busy test machines
