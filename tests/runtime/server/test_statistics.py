from isthmus.runtime.server.statistics import ModelStatistics, Total


def test_requests_and_executions_are_counted_apart():
    statistics = ModelStatistics()
    for latents, compute_s in ((3, 0.002), (3, 0.004), (1, 0.001)):
        statistics.executed(latents=latents, compute_s=compute_s)
    for _ in range(5):
        statistics.answered(total_s=0.01, decode_s=0.001, queue_s=0.005, compute_s=0.004)
    statistics.failed(total_s=0.5)
    assert (statistics.executions, statistics.latents) == (3, 7)
    assert statistics.batches == {3: Total(2, 6_000_000), 1: Total(1, 1_000_000)}
    assert statistics.success == Total(5, 50_000_000)
    assert statistics.decode == Total(5, 5_000_000)
    assert statistics.queue == Total(5, 25_000_000)
    assert statistics.compute == Total(5, 20_000_000)
    assert statistics.fail == Total(1, 500_000_000)


def test_the_last_success_is_dated_and_a_failure_is_none():
    statistics = ModelStatistics()
    statistics.failed(total_s=1.0)
    assert statistics.last_ms == 0
    statistics.answered(total_s=0.01, decode_s=0.0, queue_s=0.0, compute_s=0.0)
    assert statistics.last_ms > 1_500_000_000_000


def test_a_clock_that_steps_back_takes_nothing_away():
    total = Total()
    total.add(-1.0)
    assert total == Total(1, 0)
