"""The service without gRPC: its states, and what it counts."""

import asyncio
import time

import numpy as np
import pytest

from isthmus.runtime.bundle import load_bundle
from isthmus.runtime.errors import BusyError, DrainingError, PayloadError, UnknownModelError, WireError
from isthmus.runtime.server import ServerConfig
from isthmus.runtime.server.service import TailService, outcome_of
from isthmus.runtime.server.workers import Workers
from isthmus.runtime.wire import FrameRequest


@pytest.fixture
async def gated(tiny_bundle, make_gated_backend, open_gated):
    """Return a backend with a gate and an open service in front of it."""
    backend, service = make_gated_backend(), TailService()
    config = ServerConfig(bundles=(tiny_bundle,), threads=1)
    workers = Workers.open(1)
    service.open([open_gated(backend)(load_bundle(tiny_bundle), config, workers)])
    yield backend, service
    backend.let(1000)
    await service.close()
    workers.close()


def _frame(**changes):
    return FrameRequest(**{"model": "tiny", "latent_nchw": np.ones((1, 4, 4, 4), np.uint8), **changes})


def test_a_new_service_takes_no_frames():
    service = TailService()
    assert not service.is_ready("tiny")
    with pytest.raises(DrainingError, match="starting"):
        service.accept()


async def test_an_open_service_accepts_until_it_drains(gated):
    _, service = gated
    service.accept()
    assert service.is_ready("tiny", "1")
    service.drain()
    assert not service.is_ready("tiny")
    with pytest.raises(DrainingError, match="draining"):
        service.accept()


async def test_an_accepted_frame_is_served_though_the_drain_begins(gated):
    backend, service = gated
    service.accept()
    service.drain()
    backend.let()
    answer = await service.infer(_frame(), received_ns=time.monotonic_ns())
    assert answer.outcome == "ok"


async def test_every_end_of_a_frame_is_counted_once(gated):
    backend, service = gated
    backend.let()
    await service.infer(_frame(), received_ns=time.monotonic_ns())
    await service.infer(_frame(budget_s=-1.0), received_ns=time.monotonic_ns())
    for frame in (_frame(model="huge"), _frame(version="7")):
        with pytest.raises(UnknownModelError):
            await service.infer(frame, received_ns=time.monotonic_ns())
    with pytest.raises(WireError):
        await service.infer(_frame(outputs=("other",)), received_ns=time.monotonic_ns())
    with pytest.raises(PayloadError):
        await service.infer(_frame(latent_nchw=None, payloads=(b"x",)), received_ns=time.monotonic_ns())
    with pytest.raises(WireError):
        await service.infer(_frame(latent_nchw=np.ones((5, 4, 4, 4), np.uint8)), received_ns=0)
    assert service.outcomes == {"ok": 1, "expired": 1, "failed": 5}


async def test_the_queue_time_runs_from_the_frames_arrival(gated):
    backend, service = gated
    backend.let()
    received_ns = time.monotonic_ns() - 3_000_000_000
    answer = await service.infer(_frame(budget_s=60.0), received_ns=received_ns)
    assert answer.received_ns == received_ns
    assert 3.0 <= answer.queue_s < 30.0
    # Decoding is part of the queue, and none of it comes after the answer.
    assert 3.0 <= answer.decode_s <= answer.queue_s
    assert answer.answer_s >= 0.0
    there_s = (time.monotonic_ns() - received_ns) / 1e9
    assert answer.queue_s + answer.compute_s + answer.answer_s <= there_s


async def test_a_cancelled_frame_gives_its_place_back(gated, samples):
    backend, service = gated
    running = asyncio.create_task(service.infer(_frame(), received_ns=time.monotonic_ns()))
    await backend.started()
    decoding = asyncio.create_task(
        service.infer(
            _frame(latent_nchw=None, payloads=(samples.payload(0),)), received_ns=time.monotonic_ns()
        )
    )
    await asyncio.sleep(0)
    batcher = service.model("tiny").batcher
    assert batcher.queued == 1
    decoding.cancel()
    await asyncio.wait([decoding])
    assert batcher.queued == 0, "at once, not when its turn comes"
    backend.let(2)
    await running


@pytest.mark.parametrize(
    ("error", "outcome"), [(BusyError, "busy"), (DrainingError, "busy"), (UnknownModelError, "failed")]
)
def test_what_an_error_means_for_a_frame(error, outcome):
    assert outcome_of(error("x")) == outcome
