import pytest

from isthmus.runtime.control import LinkEstimator
from isthmus.runtime.control.estimator import OUTAGE_S

RTT_S = 0.02
SERVER_S = 0.005


def test_nothing_is_known_before_any_evidence(link_feed):
    estimate = link_feed().estimator.estimate(1.0)
    assert (estimate.connected, estimate.rate_bytes_per_s, estimate.rtt_s) == (True, None, None)
    assert (estimate.in_flight, estimate.backlog_bytes, estimate.oldest_age_s) == (0, 0, None)
    assert estimate.idle_s is None
    assert estimate.residuals == ()


def test_a_link_that_is_not_connected_is_dead_and_that_is_ordinary():
    estimate = LinkEstimator().estimate(1.0)
    assert (estimate.connected, estimate.rate_bytes_per_s) == (False, 0.0)


def test_the_first_answer_gives_a_lower_bound(link_feed):
    feed = link_feed()
    feed.exchange([200])
    # 20 ms of transmission and 20 ms of travel, all counted as transmission.
    assert feed.estimator.estimate(0.1).rate_bytes_per_s == pytest.approx(200 / 0.04)


def test_frames_of_two_sizes_give_rate_and_round_trip(link_feed):
    feed = link_feed()
    now_s = feed.exchange([100, 400] * 6)
    estimate = feed.estimator.estimate(now_s)
    assert estimate.rate_bytes_per_s == pytest.approx(10_000, rel=0.01)
    assert estimate.rtt_s == pytest.approx(RTT_S, abs=1e-4)
    assert sorted(map(abs, estimate.residuals))[len(estimate.residuals) // 2] < 0.05


def test_the_rate_follows_within_a_few_frames(link_feed):
    feed = link_feed()
    now_s = feed.exchange([100, 400] * 6)
    feed.rate = 2_000.0
    now_s = feed.exchange([100, 400] * 3, now_s)
    assert feed.estimator.estimate(now_s).rate_bytes_per_s == pytest.approx(2_000, rel=0.2)


def test_the_servers_clock_is_used_and_may_be_anywhere(link_feed):
    feed = link_feed()
    for number in range(12):
        now_s = number * 0.1
        frame, at_s = feed.send((100, 400)[number % 2], now_s)
        received_s = feed.free_s + 5_000.0
        # The way back is erratic: by our own clock the rate would be anything.
        feed.answer(frame, at_s + 0.03 * (number % 3), round(received_s * 1e9))
    assert feed.estimator.estimate(2.0).rate_bytes_per_s == pytest.approx(10_000, rel=0.01)


def test_backlog_is_what_exceeds_the_pipe(link_feed):
    feed = link_feed()
    now_s = feed.exchange([100, 400] * 6)
    for nbytes in (300, 300, 300):
        feed.send(nbytes, now_s)
    estimate = feed.estimator.estimate(now_s)
    assert estimate.in_flight == 3
    assert estimate.backlog_bytes == pytest.approx(900 - 10_000 * RTT_S, abs=20)


def test_an_overdue_frame_lowers_the_rate_and_silence_ends_it(link_feed):
    feed = link_feed()
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


def test_the_end_of_an_outage_tells_when_and_not_how_fast(link_feed):
    feed = link_feed()
    now_s = feed.exchange([100, 400] * 6)
    known = feed.estimator.estimate(now_s).rate_bytes_per_s
    frame, at_s = feed.send(200, now_s)
    assert feed.estimator.estimate(at_s + 2.0).rate_bytes_per_s == 0.0
    feed.answer(frame, at_s + 3.0)
    assert feed.estimator.estimate(at_s + 3.0).rate_bytes_per_s == known
    # But it was wrong, and that counts as a risk.
    assert feed.estimator.estimate(at_s + 3.0).residuals[0] == -1.5


def test_a_slow_frame_on_a_link_known_to_be_slow_is_no_outage(link_feed):
    feed = link_feed(rate=300.0)
    now_s = feed.exchange([100, 400] * 4, gap_s=3.0)
    assert feed.estimator.estimate(now_s).rate_bytes_per_s == pytest.approx(300, rel=0.02)


def test_a_new_connection_knows_nothing_of_the_rate_but_keeps_the_errors(link_feed):
    feed = link_feed()
    now_s = feed.exchange([100, 400] * 6)
    feed.send(100, now_s)
    feed.estimator.on_disconnected(now_s)
    assert feed.estimator.estimate(now_s).rate_bytes_per_s == 0.0
    assert feed.estimator.estimate(now_s).in_flight == 0
    feed.estimator.on_connected(now_s + 1)
    estimate = feed.estimator.estimate(now_s + 1)
    assert (estimate.rate_bytes_per_s, estimate.rtt_s) == (None, None)
    assert len(estimate.residuals) == 11


def test_an_answer_acknowledges_all_that_was_sent_before(link_feed):
    feed = link_feed()
    feed.exchange([100, 400] * 6)
    feed.send(100, 2.0)
    feed.send(200, 2.0)
    third, at_s = feed.send(300, 2.0)
    feed.send(100, 2.0)
    feed.answer(third, at_s)
    estimate = feed.estimator.estimate(at_s)
    assert estimate.in_flight == 1
    assert estimate.rate_bytes_per_s == pytest.approx(10_000, rel=0.02)  # 600 bytes, not 300, in 60 ms


def test_repeated_unknown_and_overtaken_answers_change_nothing(link_feed):
    feed = link_feed()
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


def test_fast_answers_to_small_frames_are_only_a_lower_bound(link_feed):
    feed = link_feed(rate=1e6)
    now_s = feed.exchange([2_000, 20_000] * 6)
    known = feed.estimator.estimate(now_s).rate_bytes_per_s
    assert known == pytest.approx(1e6, rel=0.05)
    for _ in range(10):  # 100 bytes take 0.1 ms and 1 ms of scheduling: not evidence of 90 kB/s
        frame, at_s = feed.send(100, now_s)
        feed.answer(frame, at_s + 1e-3)
        now_s += 0.1
    assert feed.estimator.estimate(now_s).rate_bytes_per_s >= 0.9 * known


def test_equal_frames_that_never_queue_prove_only_what_they_took(link_feed):
    feed = link_feed(rate=1e6)
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


def test_frames_that_wait_on_the_device_count_as_backlog(link_feed):
    feed = link_feed()
    now_s = feed.exchange([100, 400] * 6)
    feed.send(300, now_s)
    estimate = feed.estimator.estimate(now_s, queued_frames=2, queued_bytes=700)
    assert estimate.in_flight == 3
    assert estimate.unanswered_bytes == 1_000
    assert estimate.backlog_bytes == pytest.approx(1_000 - 10_000 * RTT_S, abs=20)


def test_what_the_link_has_been_at_the_unanswered_bytes_counts_from_the_last_departure(link_feed):
    feed = link_feed()
    now_s = feed.exchange([100, 400] * 6)
    first, first_at_s = feed.send(300, now_s)
    feed.send(300, now_s)
    # 30 ms for the first; its answer is there 25 ms later, and since then the link has been at the second.
    feed.answer(first, first_at_s)
    estimate = feed.estimator.estimate(first_at_s)
    assert estimate.serving_s == pytest.approx(RTT_S + SERVER_S, abs=6e-3)
    assert estimate.unanswered_bytes == 300


def test_the_samples_are_those_of_this_connection(link_feed):
    feed = link_feed()
    now_s = feed.exchange([100, 400] * 6)
    estimate = feed.estimator.estimate(now_s)
    assert estimate.delivered == 12
    assert estimate.samples[-3:] == pytest.approx((10_000,) * 3, rel=0.01)
    feed.estimator.on_connected(now_s)
    assert feed.estimator.estimate(now_s).samples == ()
