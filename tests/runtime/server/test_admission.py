"""What predictions decide: who is refused at once, how large a batch is, where it runs, whose turn it is."""

import asyncio
import threading

import numpy as np
import pytest

from isthmus.runtime.bundle import LatentSpec
from isthmus.runtime.errors import BackendError
from isthmus.runtime.server.accelerator import Accelerator
from isthmus.runtime.server.batcher import Batcher
from isthmus.runtime.server.tickets import Ticket

SPEC = LatentSpec(channels=1, height=1, width=1, zero_points=(0,))


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


class ModelledBackend:
    """Takes exactly `slope_s`·n + `base_s` on the clock, and notes where and what it computed."""

    provider = "Modelled"
    output = "logits"

    def __init__(self, clock, *, slope_s=0.001, base_s=0.005, max_batch=4):
        self.clock, self.slope_s, self.base_s, self.max_batch = clock, slope_s, base_s, max_batch
        self.warm_up = [(rows, slope_s * rows + base_s) for rows in (1, 2, 4)] * 3
        self.batches, self.threads = [], []
        self.fault = None

    def run(self, latents_nchw):
        self.clock.now_s += self.slope_s * len(latents_nchw) + self.base_s
        self.batches.append(latents_nchw[:, 0, 0, 0].tolist())
        self.threads.append(threading.current_thread())
        if self.fault is not None:
            raise self.fault
        return latents_nchw.reshape(-1, 1).astype(np.float32)


@pytest.fixture
def clock():
    return Clock()


class Bench:
    """Batchers on one device whose turns the test takes itself: nothing runs in between."""

    def __init__(self, clock, *backends):
        self.accelerator = Accelerator()
        self.accelerator._busy = True  # until `go`
        self.lanes = [
            Batcher(backend, SPEC, self.accelerator, queue_frames=64, clock=clock) for backend in backends
        ]
        self.results = {}

    def submit(self, name, value, *, lane=0, deadline_s=None, rows=1):
        batcher = self.lanes[lane]
        if not batcher.admit(rows, deadline_s=deadline_s):
            self.results[name] = "refused"
            return
        ticket = Ticket(
            [np.full((1, 1, 1), value, np.uint8)] * rows, lambda r: self.results.update({name: r})
        )
        batcher.submit(ticket, deadline_s=deadline_s)

    def turn(self):
        """Let one batch of whoever's turn it is be computed; return whose."""
        turns = self.accelerator._turns
        lane = turns.next(lambda lane: lane.waits())
        if lane is None:
            return None
        work = lane.take()
        turns.charge(lane, lane.compute(work))
        lane.deliver(work)
        return self.lanes.index(lane)


@pytest.fixture
async def bench(clock):
    return lambda *backends: Bench(clock, *backends)


async def test_a_frame_that_cannot_be_in_time_is_refused_without_the_device(bench, clock):
    backend = ModelledBackend(clock)
    one = bench(backend)
    one.submit("first", 1)
    one.turn()  # measured just now, so predictions are believed
    one.submit("hopeless", 2, deadline_s=clock.now_s + 0.004)
    one.submit("possible", 3, deadline_s=clock.now_s + 0.010)
    one.turn()
    assert one.results["hopeless"] == "refused"
    assert one.results["possible"].outputs_nc.tolist() == [[3.0]]
    assert backend.batches == [[1], [3]]


async def test_those_before_it_count(bench, clock):
    one = bench(ModelledBackend(clock))
    one.submit("first", 1)
    one.turn()
    at_s = clock.now_s
    for number in range(4):  # a full batch of 9 ms
        one.submit(number, number, deadline_s=at_s + 0.010)
    one.submit("behind them", 9, deadline_s=at_s + 0.012)
    one.submit("before them", 10, deadline_s=at_s + 0.007)
    one.submit("patient", 11, deadline_s=at_s + 1.0)
    assert one.results.keys() == {"first", "behind them"}
    assert one.results["behind them"] == "refused"


async def test_a_prediction_of_long_ago_refuses_nobody(bench, clock):
    one = bench(ModelledBackend(clock))
    one.submit("first", 1)
    one.turn()
    clock.now_s += 5.0
    one.submit("tried", 2, deadline_s=clock.now_s + 0.001)
    assert "tried" not in one.results
    one.turn()
    assert one.results["tried"].outputs_nc.tolist() == [[2.0]]


async def test_a_batch_is_cut_short_for_the_first_deadline_when_that_pays(bench, clock):
    backend = ModelledBackend(clock)
    one = bench(backend)
    one.submit("first", 1)
    one.turn()
    at_s = clock.now_s
    one.submit("urgent", 2, deadline_s=at_s + 0.0065)
    for number in (3, 4, 5):
        one.submit(number, number, deadline_s=at_s + 1.0)
    one.turn()
    one.turn()
    assert backend.batches == [[1], [2], [3, 4, 5]]


async def test_who_became_hopeless_while_waiting_is_told_without_the_device(bench, clock):
    backend = ModelledBackend(clock)
    one = bench(backend)
    one.submit("first", 1)
    one.turn()
    one.submit("waits", 2, deadline_s=clock.now_s + 0.007)
    clock.now_s += 0.002  # 5 ms are left, 6 are needed
    one.turn()
    assert one.results["waits"] is None
    assert backend.batches == [[1]]


async def test_two_bundles_share_the_device_by_time_not_by_batches(bench, clock):
    quick = ModelledBackend(clock, slope_s=0.001, base_s=0.0, max_batch=1)
    slow = ModelledBackend(clock, slope_s=0.020, base_s=0.0, max_batch=1)
    both = bench(quick, slow)
    for number in range(60):
        both.submit(("quick", number), 1, lane=0)
        both.submit(("slow", number), 1, lane=1)
    used_s = [0.0, 0.0]
    while sum(used_s) < 0.100:
        lane = both.turn()
        used_s[lane] += (0.001, 0.020)[lane]
    assert abs(used_s[0] - used_s[1]) <= 0.005 + 0.020 + 0.001


async def test_a_short_batch_runs_where_it_is_and_a_long_one_in_the_thread(clock):
    accelerator = Accelerator()
    here = threading.current_thread()
    short = ModelledBackend(clock, slope_s=0.0, base_s=20e-6)
    long = ModelledBackend(clock, slope_s=0.0, base_s=0.050)
    for backend, in_loop in ((short, True), (long, False)):
        batcher = Batcher(backend, SPEC, accelerator, queue_frames=8, clock=clock)
        latents = [np.full((1, 1, 1), 7, np.uint8)]
        computed = batcher.compute_now(latents)
        assert (computed is not None) == in_loop == batcher.is_quick(1)
        told = asyncio.get_running_loop().create_future()
        batcher.admit(1, deadline_s=None)
        batcher.submit(Ticket(latents, told.set_result), deadline_s=None)
        assert told.done() == in_loop
        assert (await told).outputs_nc.tolist() == [[7.0]]
        assert (backend.threads[-1] is here) == in_loop
        await batcher.close()
    accelerator.close()


async def test_a_short_batch_that_fails_fails_its_frame_alone(clock):
    accelerator = Accelerator()
    backend = ModelledBackend(clock, slope_s=0.0, base_s=20e-6)
    batcher = Batcher(backend, SPEC, accelerator, queue_frames=8, clock=clock)
    latents = [np.zeros((1, 1, 1), np.uint8)]
    for fault, message in ((BackendError("broken"), "broken"), (ZeroDivisionError(), "internal error")):
        backend.fault = fault
        with pytest.raises(BackendError, match=message):
            batcher.compute_now(latents)
    backend.fault = None
    assert batcher.compute_now(latents).outputs_nc.tolist() == [[0.0]]
    await batcher.close()
    accelerator.close()


async def test_an_answer_that_raises_does_not_keep_others_from_theirs(bench, clock):
    one = bench(ModelledBackend(clock))

    def broken(result):
        raise RuntimeError("a bug")

    one.lanes[0].admit(1, deadline_s=None)
    one.lanes[0].submit(Ticket([np.zeros((1, 1, 1), np.uint8)], broken), deadline_s=None)
    one.submit("other", 5)
    one.turn()
    assert one.results["other"].outputs_nc.tolist() == [[5.0]]
