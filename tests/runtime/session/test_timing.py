"""How long things take lately."""

import threading

from isthmus.runtime.session.timing import RecentMaximum, RecentMedian


def test_one_slow_run_does_not_move_the_median_but_a_slow_device_does():
    recent = RecentMedian(initial_s=0.5)
    assert recent.seconds == 0.5
    for _ in range(9):
        recent.add(0.001)
    recent.add(0.2)
    assert recent.seconds == 0.001
    for _ in range(5):
        recent.add(0.002)
    assert recent.seconds == 0.002


def test_the_maximum_forgets_after_32():
    recent = RecentMaximum(0.002)
    recent.add(0.05)
    for _ in range(31):
        recent.add(0.001)
    assert recent.seconds == 0.05
    recent.add(0.001)
    assert recent.seconds == 0.001


def test_two_threads_may_measure_at_once():
    recent, failed = RecentMedian(), []

    def measure():
        try:
            for count in range(3000):
                recent.add(0.001 * (1 + count % 3))
        except RuntimeError as error:
            failed.append(error)

    threads = [threading.Thread(target=measure) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert 0.001 <= recent.seconds <= 0.003
