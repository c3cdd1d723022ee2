"""A real server in the test's own event loop, with the real backend or one that waits at a gate."""

import asyncio
import dataclasses
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest

from isthmus.runtime.bundle import TABLES, Bundle, load_bundle
from isthmus.runtime.codecs import FrequencyTables, encode_payload
from isthmus.runtime.server import ServerConfig, TailServer
from isthmus.runtime.server.accelerator import Accelerator
from isthmus.runtime.server.model import ServedModel
from isthmus.runtime.server.workers import Workers
from isthmus.runtime.wire import InferenceStub, channel_options

# No test waits for anything as long as this; one that would is broken.
PATIENCE_S = 20.0


class GatedBackend:
    """A tail that computes a batch only when let through, and remembers the batches it got.

    The scores of a latent are [sum, first value, rows of the batch], so that each frame's answer is its own.
    """

    provider = "GatedProvider"
    warm_up = ()
    output = "logits"

    def __init__(self, max_batch=4):
        self.max_batch = max_batch
        self.batches = []
        self.fault = None
        self._started = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)

    def run(self, latents_nchw):
        self.batches.append(latents_nchw.copy())
        self._started.release()
        assert self._passes.acquire(timeout=PATIENCE_S), "nobody let the batch through"
        if self.fault is not None:
            raise self.fault
        flat = latents_nchw.reshape(len(latents_nchw), -1).astype(np.float32)
        return np.stack([flat.sum(axis=1), flat[:, 0], np.full(len(flat), len(flat), np.float32)], axis=1)

    async def started(self):
        """Wait until one more batch has begun."""
        assert await asyncio.to_thread(self._started.acquire, timeout=PATIENCE_S), "no batch began"

    def let(self, batches=1):
        """Let `batches` batches through, now or when they come."""
        for _ in range(batches):
            self._passes.release()


@dataclasses.dataclass
class Running:
    """A started server: the object, what it reported, and a client's channel and stub."""

    server: TailServer
    port: int
    models: tuple[str, ...]
    channel: grpc.aio.Channel
    stub: InferenceStub


@pytest.fixture
def make_gated_backend():
    return GatedBackend


@pytest.fixture
def open_gated():
    """Return `open_gated(backend)`, which makes TailServer's `open_model` for that backend."""

    def with_backend(backend):
        def open_model(bundle: Bundle, config: ServerConfig, workers: Workers) -> ServedModel:
            tables = FrequencyTables.from_bytes(bundle.read(TABLES))
            # However quick its batches were so far: one that waits at the gate must not stop the event loop.
            in_thread = Accelerator(hand_off_s=-1.0, loop=workers.loop)
            workers = dataclasses.replace(workers, accelerator=in_thread)
            return ServedModel(bundle, backend, tables, workers=workers, queue_frames=config.queue_frames)

        return open_model

    return with_backend


@pytest.fixture
async def start_server(open_gated):
    """Return `await start(*bundles, backend=None, kind="auto", **config)`: a server, and a client of it."""
    running = []
    gates = []

    async def start(*bundles, backend=None, kind="auto", **changes):
        config = ServerConfig(**{"bundles": bundles, "port": 0, "threads": 1, "backend": kind, **changes})

        if backend is not None:
            gates.append(backend)
        server = TailServer(config) if backend is None else TailServer(config, open_model=open_gated(backend))
        report = await server.start()
        channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{report.port}", options=channel_options(config.max_message_bytes * 2)
        )
        running.append(Running(server, report.port, report.models, channel, InferenceStub(channel)))
        return running[-1]

    yield start
    for gate in gates:
        gate.let(1000)
    for one in running:
        await one.channel.close()
        one.server.hurry()
        await one.server.drain()


@pytest.fixture
async def tiny_server(start_server, tiny_bundle):
    return await start_server(tiny_bundle)


@dataclasses.dataclass
class Samples:
    """Latents of the widest head uint8 [n,4,4,4] from the bundle's golden vectors, and the tail's outputs."""

    latents: np.ndarray
    outputs: np.ndarray
    tables: FrequencyTables

    def payload(self, index, channels=4, codec="rans"):
        return encode_payload(self.latents[index, :channels], codec=codec, width_index=3, tables=self.tables)


@pytest.fixture(scope="session")
def samples(tiny_bundle: Path) -> Samples:
    bundle = load_bundle(tiny_bundle)
    with np.load(tiny_bundle / "golden/golden.npz") as golden:
        latents, outputs = golden["latents_3"], golden["outputs_3_4"]
    assert len(np.unique(outputs.round(3), axis=0)) == len(outputs), "the samples' answers must differ"
    return Samples(latents, outputs, FrequencyTables.from_bytes(bundle.read(TABLES)))
