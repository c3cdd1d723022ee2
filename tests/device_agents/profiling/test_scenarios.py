"""When frames are asked for: the order and number of questions, not how long they take."""

import asyncio
import itertools

import pytest

from isthmus.device_agents.profiling.scenarios import OFFLINE_DEPTH, SERVER_DEPTH, Load, drive
from isthmus.runtime.errors import NetworkError


class After:
    """Has enough after so many queries."""

    def __init__(self, count):
        self.count = count
        self.queries = []
        self.turned_away = 0

    @property
    def enough(self):
        return len(self.queries) + self.turned_away >= self.count

    def take(self, query):
        self.queries.append(query)

    def turn_away(self):
        self.turned_away += 1


async def test_single_stream_asks_when_it_was_answered(stand_in):
    target, taker = stand_in(0.0), After(20)
    await drive(Load(scenario="SingleStream"), target, taker)
    assert [len(query) for query in taker.queries] == [1] * 20
    assert target.most_waiting == 1
    assert target.waiting == []


async def test_multi_stream_waits_for_the_last_of_each_query(stand_in):
    target, taker = stand_in(0.0), After(5)
    await drive(Load(scenario="MultiStream", streams=8), target, taker)
    assert [len(query) for query in taker.queries] == [8] * 5
    assert target.most_waiting == 8
    assert len(set(target.due_s)) == 5


async def test_offline_keeps_as_many_unanswered_as_it_may(stand_in):
    target, taker = stand_in(0.001), After(100)
    await drive(Load(scenario="Offline"), target, taker)
    assert target.most_waiting == OFFLINE_DEPTH
    # What was unanswered when there were enough is waited for and counted too.
    assert 100 <= len(taker.queries) == len(target.due_s) < 100 + OFFLINE_DEPTH


async def test_server_asks_at_random_instants_of_the_seed(stand_in):
    gaps = []
    for seed in (1, 1, 2):
        target, taker = stand_in(0.0), After(300)
        await drive(Load(scenario="Server", rate_per_s=2000.0, seed=seed), target, taker)
        due_s = target.due_s[:300]
        gaps.append([round(later - sooner, 9) for sooner, later in itertools.pairwise(due_s)])
    assert gaps[0] == pytest.approx(gaps[1])
    assert gaps[0] != pytest.approx(gaps[2])
    mean_s = sum(gaps[0]) / len(gaps[0])
    assert mean_s == pytest.approx(1 / 2000, rel=0.2)
    # Exponential: the standard deviation is the mean.
    spread_s = (sum((gap - mean_s) ** 2 for gap in gaps[0]) / len(gaps[0])) ** 0.5
    assert spread_s == pytest.approx(mean_s, rel=0.25)


async def test_server_turns_arrivals_away_rather_than_queue_without_end(stand_in):
    target, taker = stand_in(None), After(200)
    task = asyncio.ensure_future(drive(Load(scenario="Server", rate_per_s=5000.0), target, taker))
    while not taker.enough:
        await asyncio.sleep(0.001)
        assert not task.done()
    assert len(target.waiting) == SERVER_DEPTH
    assert taker.turned_away == 200
    for future, due_s in zip(list(target.waiting), target.due_s, strict=False):
        target.answer(future, due_s)
    await asyncio.wait_for(task, 30)
    assert len(taker.queries) == SERVER_DEPTH


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server", "Offline"])
async def test_a_target_that_fails_ends_the_measurement(scenario):
    class Broken:
        def ask(self, due_s):
            future = asyncio.get_running_loop().create_future()
            future.set_exception(NetworkError("gone"))
            return future

    with pytest.raises(NetworkError, match="gone"):
        await drive(Load(scenario=scenario, rate_per_s=1000.0), Broken(), After(10_000))
