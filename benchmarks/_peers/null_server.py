"""Our server with a tail that answers at once: `null_server.py BUNDLE... [--trace FILE] [--tls FOLDER]`.

Everything but the tail is what `isthmus serve` runs. A bundle `null-N` lends its files; its latents are N
bytes. With `--trace` every frame's instants are kept, and written when the process is told to stop; that
costs a little, so a traced server is not the one whose round trips are quoted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import TABLES, Bundle, LatentSpec
from isthmus.runtime.codecs import FrequencyTables
from isthmus.runtime.server import ReadyReport, ServerConfig, TailServer, run_until
from isthmus.runtime.server.event_loop import run_server
from isthmus.runtime.server.model import ServedModel
from isthmus.runtime.server.records import FrameRecord, Recorder
from isthmus.runtime.server.workers import Workers

CLASSES = 10
SIDE = 10

Marks = dict[str, dict[str, int]]


class NullBackend:
    """Answers zeros, as a `TailBackend`; its first batches have told that it takes no time."""

    provider = "null"
    output = "logits"
    max_batch = 32
    warm_up = ((1, 1e-6), (32, 1e-6))

    def __init__(self) -> None:
        self._scores = np.zeros((self.max_batch, CLASSES), np.float32)

    def run(self, latents_nchw: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `TailBackend.run`."""
        return self._scores[: len(latents_nchw)]


def latent_of(size: int) -> LatentSpec:
    """Return the latents of `size` bytes, a multiple of 100."""
    channels = size // (SIDE * SIDE)
    return LatentSpec(channels=channels, height=SIDE, width=SIDE, zero_points=(128,) * channels)


def open_null(bundle: Bundle, config: ServerConfig, workers: Workers) -> ServedModel:
    """Serve `bundle`, named null-N, as if its latents were N bytes and its tail took no time."""
    size = int(bundle.manifest.name.removeprefix("null-"))
    labels = tuple(str(label) for label in range(CLASSES))
    manifest = msgspec.structs.replace(bundle.manifest, latent=latent_of(size), labels=labels)
    tables = FrequencyTables.from_bytes(bundle.read(TABLES))
    altered = Bundle(root=bundle.root, manifest=manifest, points=bundle.points, digest=bundle.digest)
    return ServedModel(altered, NullBackend(), tables, workers=workers, queue_frames=config.queue_frames)


class Tracing(Recorder):
    """Keeps each frame's instants by its id: nanoseconds of the monotonic clock, which processes share."""

    def __init__(self) -> None:
        self.marks: Marks = defaultdict(dict)
        self._decode_ns = 0

    def frame(self, record: FrameRecord) -> None:
        """See `Recorder.frame`."""
        assert record.decoded_s is not None, "a null server answers every frame"
        assert record.started_s is not None, "a null server answers every frame"
        self.marks[record.frame_id] |= {
            "received": round(record.received_s * 1e9),
            "decode": self._decode_ns,
            "decoded": round(record.decoded_s * 1e9),
            "started": round(record.started_s * 1e9),
            "computed": round((record.started_s + record.compute_s) * 1e9),
            "ended": round(record.ended_s * 1e9),
        }
        self._decode_ns = 0

    def install(self) -> None:
        """Note when messages are read and written, and how long payloads take to decode, in this process."""
        make_handler, decode = grpc.stream_stream_rpc_method_handler, ServedModel.decode

        def handler(behaviour: Any, request_deserializer: Any = None, response_serializer: Any = None) -> Any:
            def read(data: bytes) -> Any:
                began = time.monotonic_ns()
                message = request_deserializer(data)
                if isinstance(getattr(message, "id", None), str):
                    self.marks[message.id] |= {"parse": began, "parsed": time.monotonic_ns()}
                return message

            def write(message: Any) -> bytes:
                began = time.monotonic_ns()
                data: bytes = response_serializer(message)
                if hasattr(message, "infer_response"):
                    self.marks[message.infer_response.id] |= {"write": began, "written": time.monotonic_ns()}
                return data

            return make_handler(behaviour, read, write)

        def decoded(model: ServedModel, payloads: Any) -> Any:
            began = time.monotonic_ns()
            latents = decode(model, payloads)
            self._decode_ns = time.monotonic_ns() - began
            return latents

        grpc.stream_stream_rpc_method_handler = handler
        ServedModel.decode = decoded  # type: ignore[method-assign]


async def _serve(config: ServerConfig, tracing: Tracing | None) -> None:
    stops: asyncio.Queue[int] = asyncio.Queue()
    recorders = () if tracing is None else (tracing,)
    server = TailServer(config, open_model=open_null, recorders=recorders)

    def on_ready(report: ReadyReport) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stops.put_nowait, signal.SIGTERM)
        print(json.dumps({"port": report.port}), flush=True)

    await run_until(stops, server, on_ready)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--tls", type=Path)
    given = parser.parse_args()
    security = {}
    if given.tls is not None:
        security = {
            "certificate": given.tls / "server.pem",
            "key": given.tls / "server.key",
            "client_authority": given.tls / "authority.pem",
        }
    tracing = None
    if given.trace is not None:
        tracing = Tracing()
        tracing.install()
    run_server(_serve(ServerConfig(bundles=tuple(given.bundles), port=0, **security), tracing))
    if tracing is not None:
        given.trace.write_text(json.dumps(tracing.marks))


if __name__ == "__main__":
    main()
