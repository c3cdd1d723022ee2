"""What holds of the estimate whatever happened before, and what an update costs."""

import math
import time

from hypothesis import example, given
from hypothesis import strategies as st

from isthmus.runtime.control import LinkEstimator

RTT_S = 0.02
SERVER_S = 0.005

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
def test_more_bytes_in_the_same_time_never_mean_a_lower_rate(link_feed, rate_a, rate_b):
    def believed(rate):
        feed = link_feed(rate=rate)
        now_s = feed.exchange([1_000, 4_000] * 5, gap_s=20.0)
        return feed.estimator.estimate(now_s).rate_bytes_per_s

    low, high = sorted((rate_a, rate_b))
    assert believed(low) <= believed(high) * (1 + 1e-6)


@given(st.lists(st.floats(0.0, 3.0), min_size=2, max_size=8))
def test_silence_never_raises_the_rate(link_feed, waits_s):
    feed = link_feed()
    now_s = feed.exchange([100, 400] * 6)
    feed.send(200, now_s)
    rates = [feed.estimator.estimate(now_s + wait_s).rate_bytes_per_s for wait_s in sorted(waits_s)]
    assert rates == sorted(rates, reverse=True)


@given(
    st.floats(1_000, 1e6),
    st.floats(1_000, 150_000),
    st.floats(0.5, 60.0),
    st.lists(st.integers(100, 2_000), min_size=4, max_size=20),
    st.booleans(),
)
@example(1_000, 1_487, 60.0, [886, 1_107, 1_383, 1_727], False)
def test_six_frames_after_any_outage_the_rate_is_known_again(
    link_feed, before, after, outage_s, sizes, server_clock
):
    """Whatever the link was before: six answers after its return the rate is right within a factor of 1.5.

    Six of two sizes: a pair of frames that straddles the outage says nonsense of the path, until good pairs
    outvote it. And up to 150 kB/s: a frame that takes less than 3 ms only says "at least this rate".
    """
    feed = link_feed(rate=before)

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
    for nbytes in (1_500, 500) * 3:
        now_s = exchange(nbytes, now_s)
    believed = feed.estimator.estimate(now_s).rate_bytes_per_s
    assert after / 1.5 <= believed <= after * 1.5


def test_an_update_costs_microseconds(link_feed):
    feed = link_feed()
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
