"""Reading a meter off everybody's way."""

import threading

import pytest

from isthmus.runtime.energy import EnergySampler


class Meter:
    """Says what the test tells it to."""

    source, measured = "rapl", True

    def __init__(self):
        self.says, self.trouble, self.closed = 0.0, None, False
        self.read = threading.Semaphore(0)

    def read_j(self):
        self.read.release()
        return self.says

    def close(self):
        self.closed = True


def test_watts_are_a_mean_over_the_last_second(clock):
    meter = Meter()
    sampler = EnergySampler(meter, clock=clock)
    assert (sampler.energy_j, sampler.power_w) == (None, None)
    # 10 W for a second, then 20 W: a second later only these count.
    for tenth in range(21):
        meter.says = tenth * 1.0 if tenth <= 10 else 10.0 + (tenth - 10) * 2.0
        sampler.sample()
        clock.pass_s(0.1)
    assert sampler.energy_j == 30.0
    assert sampler.power_w == pytest.approx(20.0)


def test_an_unknown_reading_makes_watts_unknown_until_there_are_two_again(clock):
    meter = Meter()
    sampler = EnergySampler(meter, clock=clock)
    for says in (0.0, 1.0):
        meter.says = says
        sampler.sample()
        clock.pass_s(0.1)
    assert sampler.power_w == pytest.approx(10.0)
    meter.says, meter.trouble = None, "gone"
    sampler.sample()
    assert (sampler.energy_j, sampler.power_w, sampler.trouble) == (None, None, "gone")
    meter.says, meter.trouble = 5.0, None
    sampler.sample()
    assert (sampler.energy_j, sampler.power_w, sampler.trouble) == (5.0, None, None)


def test_a_sensor_that_no_longer_answers_is_unknown(clock):
    meter = Meter()
    sampler = EnergySampler(meter, clock=clock)
    sampler.sample()
    clock.pass_s(1.0)
    sampler.sample()
    clock.pass_s(14.0)
    assert sampler.energy_j == 0.0
    clock.pass_s(2.0)
    assert (sampler.energy_j, sampler.power_w) == (None, None)
    assert sampler.trouble == "rapl: the sensor no longer answers"


def test_a_thread_reads_until_it_is_closed():
    meter = Meter()
    sampler = EnergySampler(meter)
    sampler.start()
    for _ in range(3):
        assert meter.read.acquire(timeout=10.0)
    sampler.close()
    assert meter.closed
    assert sampler.energy_j == 0.0
    while meter.read.acquire(blocking=False):
        pass
    assert not meter.read.acquire(timeout=0.3)


def test_closing_what_never_began_closes_the_meter():
    meter = Meter()
    EnergySampler(meter).close()
    assert meter.closed
