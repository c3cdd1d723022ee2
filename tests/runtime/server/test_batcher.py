import asyncio

import numpy as np
import pytest

from isthmus.runtime.bundle import LatentSpec
from isthmus.runtime.errors import BackendError, BusyError, DrainingError
from isthmus.runtime.server.accelerator import Accelerator
from isthmus.runtime.server.batcher import Batcher
from isthmus.runtime.server.tickets import Ticket

SPEC = LatentSpec(channels=2, height=1, width=1, zero_points=(0, 7))


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def backend(make_gated_backend):
    return make_gated_backend(max_batch=4)


@pytest.fixture
async def accelerator():
    accelerator = Accelerator(hand_off_s=-1.0)  # in its thread: a batch waits at the gate
    yield accelerator
    accelerator.close()


@pytest.fixture
async def batcher(backend, clock, accelerator):
    batcher = Batcher(backend, SPEC, accelerator, queue_frames=6, clock=clock)
    yield batcher
    backend.let(1000)
    await batcher.close()


def _ticket(value, *, rows=1, channels=2):
    future = asyncio.get_running_loop().create_future()

    def done(result):
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    return Ticket([np.full((channels, 1, 1), value, np.uint8)] * rows, done), future


def _submit(batcher, value, *, deadline_s=None, rows=1, channels=2):
    """Return the future of a frame's result."""
    ticket, future = _ticket(value, rows=rows, channels=channels)
    assert batcher.admit(rows, deadline_s=deadline_s)
    assert batcher.submit(ticket, deadline_s=deadline_s)
    return future


def _batches(backend):
    return [batch[:, 0, 0, 0].tolist() for batch in backend.batches]


async def test_an_idle_tail_starts_at_once_and_whoever_waits_goes_along(batcher, backend):
    first = _submit(batcher, 1)
    await backend.started()
    waiting = [_submit(batcher, value) for value in (2, 3, 4)]
    backend.let(2)
    results = await asyncio.gather(first, *waiting)
    assert _batches(backend) == [[1], [2, 3, 4]]
    assert [result.outputs_nc[:, 1].tolist() for result in results] == [[1.0], [2.0], [3.0], [4.0]]


async def test_the_earliest_deadline_goes_first(batcher, backend):
    first = _submit(batcher, 1)
    await backend.started()
    waiting = [_submit(batcher, value, deadline_s=at_s) for value, at_s in ((9, None), (3, 300), (2, 200))]
    backend.let(2)
    await asyncio.gather(first, *waiting)
    assert _batches(backend) == [[1], [2, 3, 9]]


async def test_batches_end_at_the_largest_size_and_keep_requests_whole(batcher, backend):
    first = _submit(batcher, 1)
    await backend.started()
    waiting = [_submit(batcher, 2, rows=3), _submit(batcher, 3, rows=2), _submit(batcher, 4)]
    backend.let(3)
    results = await asyncio.gather(first, *waiting)
    assert _batches(backend) == [[1], [2, 2, 2], [3, 3, 4]]
    assert [len(result.outputs_nc) for result in results] == [1, 3, 2, 1]
    assert results[3].outputs_nc[0, 1] == 4.0


async def test_widths_and_channel_counts_share_a_batch(batcher, backend):
    first = _submit(batcher, 1)
    await backend.started()
    waiting = [_submit(batcher, 5, channels=1), _submit(batcher, 6, channels=2)]
    backend.let(2)
    await asyncio.gather(first, *waiting)
    assert backend.batches[1].reshape(2, 2).tolist() == [[5, 7], [6, 6]]


async def test_an_expired_frame_never_reaches_the_tail(batcher, backend, clock):
    first = _submit(batcher, 1)
    await backend.started()
    late, timely = _submit(batcher, 2, deadline_s=100.5), _submit(batcher, 3, deadline_s=101.5)
    clock.now_s = 101.0
    backend.let(2)
    results = await asyncio.gather(first, late, timely)
    assert _batches(backend) == [[1], [3]]
    assert results[1] is None
    assert results[2].outputs_nc[0, 1] == 3.0


async def test_a_cancelled_frame_never_reaches_the_tail(batcher, backend):
    first = _submit(batcher, 1)
    await backend.started()
    ticket, gone = _ticket(2)
    batcher.admit(1, deadline_s=None)
    batcher.submit(ticket, deadline_s=None)
    assert batcher.queued == 1
    batcher.cancel(ticket)
    assert batcher.queued == 0
    kept = _submit(batcher, 3)
    backend.let(2)
    await asyncio.gather(first, kept)
    assert _batches(backend) == [[1], [3]]
    assert not gone.done()


async def test_a_full_queue_refuses_until_frames_leave(batcher, backend):
    first = _submit(batcher, 1)
    await backend.started()
    waiting = [_submit(batcher, 2, rows=3), _submit(batcher, 3, rows=3)]
    with pytest.raises(BusyError) as refused:
        batcher.admit(1, deadline_s=None)
    assert str(refused.value) == ("the queue is full: 6 of 6 latents wait; send fewer or try another server")
    backend.let(3)
    await asyncio.gather(first, *waiting)
    batcher.admit(6, deadline_s=None)
    batcher.release(6)


async def test_expired_frames_make_room_in_a_full_queue(batcher, backend, clock):
    first = _submit(batcher, 1)
    await backend.started()
    late = _submit(batcher, 2, rows=4, deadline_s=101.0)
    late_too = _submit(batcher, 2, rows=2, deadline_s=101.0)
    clock.now_s = 102.0
    kept = _submit(batcher, 3, rows=4)
    assert await late is None
    assert await late_too is None
    backend.let(2)
    await asyncio.gather(first, kept)
    assert _batches(backend) == [[1], [3, 3, 3, 3]]


async def test_a_failed_batch_fails_its_frames_and_no_others(batcher, backend):
    backend.fault = BackendError("the tail failed")
    doomed = _submit(batcher, 1)
    await backend.started()
    backend.let()
    with pytest.raises(BackendError, match="the tail failed"):
        await doomed
    backend.fault = None
    after = _submit(batcher, 2)
    backend.let()
    assert (await after).outputs_nc[0, 1] == 2.0


async def test_closing_lets_the_batch_end_and_refuses_the_rest(batcher, backend):
    running = _submit(batcher, 1)
    await backend.started()
    waiting = _submit(batcher, 2)
    closing = asyncio.create_task(batcher.close())
    with pytest.raises(DrainingError, match="the server stopped before the frame was computed"):
        await waiting
    backend.let()
    assert (await running).outputs_nc[0, 1] == 1.0
    await closing
    ticket, _ = _ticket(3)
    assert batcher.admit(1, deadline_s=None)
    assert not batcher.submit(ticket, deadline_s=None)
    assert batcher.queued == 0
    assert _batches(backend) == [[1]]


async def test_times_and_load_are_those_of_the_batch(batcher, backend, clock):
    frame = _submit(batcher, 1)
    await backend.started()
    clock.now_s = 100.25
    backend.let()
    computed = await frame
    assert (computed.started_s, computed.compute_s) == (100.0, 0.25)
    assert batcher.load_percent == 25
