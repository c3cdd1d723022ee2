"""Where a measurement begins and ends, and what its figures are made of."""

import pytest
from msgspec import structs

from isthmus.device_agents.profiling.conditions import Watch
from isthmus.device_agents.profiling.figures import part_quantiles, stage_quantiles, sum_over_latency
from isthmus.device_agents.profiling.measuring import Extent, Gathering, measure, with_rate
from isthmus.device_agents.profiling.sample import Sample
from isthmus.device_agents.profiling.scenarios import Load
from isthmus.device_agents.profiling.ways import Way
from isthmus.runtime.energy import EnergySampler

WAY = Way(kind="network")


@pytest.fixture
def gathering():
    """Return `make(extent)`: a gathering on a clock of its own, `clock`, and the instants it began at."""

    def make(**extent):
        now_s, begun = [0.0], []
        gathered = Gathering(Extent(**extent), begin=lambda: begun.append(now_s[0]), clock=lambda: now_s[0])
        return gathered, now_s, begun

    return make


def feed(gathered, now_s, make_sample, seconds, latency_s=0.02):
    end_s = now_s[0] + seconds
    while now_s[0] < end_s and not gathered.enough:
        due_s = now_s[0]
        now_s[0] += latency_s
        gathered.take([make_sample(latency_s, due_s)])


def test_the_warm_up_is_left_out(gathering, make_sample):
    gathered, now_s, begun = gathering(least_s=3.0, warm_up_s=5.0, most_s=20.0)
    feed(gathered, now_s, make_sample, 100.0)
    assert gathered.is_warm
    assert len(begun) == 1
    assert gathered.began_s == begun[0] == pytest.approx(0.8)
    assert gathered.queries[0][0].due_s >= gathered.began_s
    assert len(gathered.all_samples) - len(gathered.queries) == 40
    assert gathered.ended_s - gathered.began_s == pytest.approx(3.0, abs=0.03)


def test_it_goes_on_until_there_are_enough_queries(gathering, make_sample):
    gathered, now_s, _ = gathering(least_s=1.0, warm_up_s=5.0, most_s=60.0)
    feed(gathered, now_s, make_sample, 100.0, latency_s=0.2)
    assert len(gathered.queries) == 100


def test_but_no_longer_than_it_may(gathering, make_sample):
    gathered, now_s, _ = gathering(least_s=1.0, warm_up_s=5.0, most_s=4.0)
    feed(gathered, now_s, make_sample, 100.0, latency_s=0.5)
    assert 0 < len(gathered.queries) <= 9


def test_what_does_not_settle_is_measured_all_the_same(gathering, make_sample):
    gathered, now_s, _ = gathering(least_s=1.0, warm_up_s=2.0, most_s=4.0)
    latency_s = 0.01
    while not gathered.enough:
        due_s = now_s[0]
        now_s[0] += latency_s
        latency_s *= 1.01
        gathered.take([make_sample(latency_s, due_s)])
    assert not gathered.is_warm
    assert gathered.warm_up_s == pytest.approx(2.0, abs=0.1)


def test_a_frame_of_the_warm_up_that_ends_late_does_not_count(gathering, make_sample):
    gathered, now_s, _ = gathering(least_s=1.0, warm_up_s=5.0, most_s=4.0)
    feed(gathered, now_s, make_sample, 0.8)
    assert gathered.began_s is not None
    now_s[0] += 0.02
    gathered.take([make_sample(0.5, gathered.began_s - 0.1)])
    assert gathered.queries == []


def test_throughput_counts_neither_frames_nor_time_of_what_was_under_way(gathering, make_sample):
    gathered, now_s, _ = gathering(least_s=1.0, warm_up_s=0.0, most_s=40.0)
    # Sixteen at a time, one answered every 10 ms: a hundred a second, each 160 ms after it was asked.
    while not gathered.enough:
        now_s[0] += 0.01
        gathered.take([make_sample(0.16, now_s[0] - 0.16)])
    assert len(gathered.queries) / (gathered.ended_s - gathered.began_s) < 90
    assert gathered.throughput_per_s == pytest.approx(100.0)


def test_parts_and_the_rest_make_up_the_latency_of_every_frame(remote_event):
    samples = [
        Sample(event=remote_event(frame=i, head_s=0.001 * (i + 1)), due_s=100.0 - 0.002, as_asked=True)
        for i in range(9)
    ]
    parts = part_quantiles(samples)
    assert list(parts) == ["head", "codec", "link", "queue", "tail", "rest"]
    assert parts["head"].p50_s == pytest.approx(0.005)
    assert parts["head"].mean_s == pytest.approx(0.005)
    assert parts["link"].p99_s == pytest.approx(0.006)
    assert parts["queue"].p50_s == pytest.approx(0.0007)
    # wait, hand-over, send, the server's decoding and answering, and being asked 2 ms late
    assert parts["rest"].p50_s == pytest.approx(0.0005 + 0.0002 + 0.0001 + 0.0003 + 0.0002 + 0.002)
    total_s = sum(part.mean_s for part in parts.values())
    assert total_s == pytest.approx(sum(sample.latency_s for sample in samples) / 9)
    assert sum_over_latency(samples) == pytest.approx(1.0)
    assert stage_quantiles(samples)["wait"].p50_s == pytest.approx(0.0025)


def test_a_stage_that_is_missing_shows_in_the_sum(remote_event):
    event = structs.replace(remote_event(), encode_s=None)
    gone = Sample(event=event, due_s=100.0, as_asked=True)
    assert sum_over_latency([gone]) == pytest.approx(1 - 0.0004 / gone.latency_s)


class Meter:
    """A meter that gains two joules a second of the clock given, and says that it is modelled if asked to."""

    measured = True
    trouble = None

    def __init__(self, source="replay:test", *, known=True):
        self.source, self.known, self.readings = source, known, 0

    def read_j(self):
        self.readings += 1
        return 2.0 * self.readings if self.known else None

    def close(self):
        pass


@pytest.mark.parametrize("known", [True, False])
async def test_energy_is_that_of_the_measurement_or_none(stand_in, known):
    sampler = EnergySampler(Meter(known=known))
    watch = Watch(frequency=lambda: None)
    sampler.sample()
    target = stand_in(0.0)

    class Counting:
        asked = 0

        def ask(self, due_s):
            self.asked += 1
            if self.asked % 10 == 0:
                sampler.sample()
            return target.ask(due_s)

    measured = await measure(
        WAY,
        Load(scenario="SingleStream"),
        Counting(),
        extent=Extent(warm_up_s=0.0, least_s=0.05, most_s=10.0),
        watch=watch,
        meter=sampler,
        idle_w=1.0,
    )
    figures = measured.figures
    assert figures.queries >= 100
    # One after the other: the same number, but for the first and the ends.
    assert figures.throughput_per_s == pytest.approx(figures.frames / figures.elapsed_s, rel=0.1)
    if not known:
        assert figures.energy is None
        return
    energy = figures.energy
    # Every ten frames two joules, give or take the readings at both ends.
    assert energy.total_j == pytest.approx(2.0 * figures.frames / 10, abs=2.1)
    power_w = energy.total_j / figures.elapsed_s
    assert energy.per_frame_j == pytest.approx(power_w / figures.throughput_per_s)
    assert energy.above_idle_per_frame_j == pytest.approx((power_w - 1.0) / figures.throughput_per_s)


async def test_a_server_scenario_without_a_rate_gets_half_of_what_one_at_a_time_takes(stand_in):
    watch = Watch(frequency=lambda: None)
    told = Load(scenario="Server", rate_per_s=12.0)
    assert await with_rate(WAY, told, stand_in(0.01), watch) is told
    found = await with_rate(WAY, Load(scenario="Server", seed=4), stand_in(0.01), watch)
    assert 5 < found.rate_per_s <= 50
    assert found.seed == 4
