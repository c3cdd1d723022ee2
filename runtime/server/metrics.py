"""What Prometheus reads: frames, bytes, stages, batches and queues, per bundle.

Served from a thread of its own, so that a scrape waits for no frame. With several processes each writes its
figures into files of a directory that the supervisor names in PROMETHEUS_MULTIPROC_DIR, and the supervisor
serves their sum; the library looks at that variable once, when it is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import Any

from isthmus.runtime.errors import MissingExtraError, NetworkError
from isthmus.runtime.server.records import FrameRecord, Recorder

MULTIPROCESS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

# From what a tiny tail takes to what nobody waits for, each about twice the one before.
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LATENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics(Recorder):
    """Counts frames and batches; `serve` shows them."""

    def __init__(self) -> None:
        """Make the metrics, all zero.

        Raises:
            MissingExtraError: If prometheus-client is not installed.
        """
        try:
            import prometheus_client as prometheus
        except ModuleNotFoundError:
            raise MissingExtraError("--metrics-port", "server") from None
        self.registry = prometheus.CollectorRegistry()
        options: dict[str, Any] = {"namespace": "isthmus", "registry": self.registry}
        self._frames = prometheus.Counter(
            "frames", "Frames that have ended, by outcome.", ("model", "outcome"), **options
        )
        self._bytes = prometheus.Counter(
            "payload_bytes", "Bytes of payloads in and of outputs out.", ("model", "direction"), **options
        )
        self._stages = prometheus.Histogram(
            "stage_seconds",
            "Seconds of a computed frame in a stage: decode, queue, compute, total.",
            ("model", "stage"),
            buckets=_SECONDS,
            **options,
        )
        self._batches = prometheus.Histogram(
            "batch_latents", "Latents in one run of a tail.", ("model",), buckets=_LATENTS, **options
        )
        self._compute = prometheus.Counter(
            "compute_seconds", "Seconds of runs of a tail.", ("model",), **options
        )
        self._queued = prometheus.Gauge(
            "queued_latents",
            "Latents that wait for the tail.",
            ("model",),
            multiprocess_mode="livesum",
            **options,
        )
        self._loaded = prometheus.Gauge(
            "model_loaded",
            "1 for the provider that computes a model's tail.",
            ("model", "provider"),
            multiprocess_mode="livemax",
            **options,
        )
        self._certificate = prometheus.Gauge(
            "certificate_not_after_seconds",
            "Unix time until which the server's certificate is valid.",
            multiprocess_mode="livemin",
            **options,
        )
        self._waiting: dict[str, Callable[[], int]] = {}

    def frame(self, record: FrameRecord) -> None:
        """See `Recorder.frame`."""
        model = record.model
        self._frames.labels(model, record.outcome).inc()
        self._bytes.labels(model, "in").inc(record.request_bytes)
        if record.answer_bytes:
            self._bytes.labels(model, "out").inc(record.answer_bytes)
        if record.decoded_s is not None and record.started_s is not None:
            stage = self._stages.labels
            stage(model, "decode").observe(record.decoded_s - record.received_s)
            stage(model, "queue").observe(max(0.0, record.started_s - record.decoded_s))
            stage(model, "compute").observe(record.compute_s)
            stage(model, "total").observe(record.ended_s - record.received_s)
        self._queued.labels(model).set(self._waiting[model]())

    def batch(self, model: str, latents: int, compute_s: float) -> None:
        """See `Recorder.batch`."""
        self._batches.labels(model).observe(latents)
        self._compute.labels(model).inc(compute_s)

    def certificate(self, not_after: datetime) -> None:
        """See `Recorder.certificate`."""
        self._certificate.set(not_after.timestamp())

    def model(self, model: str, *, provider: str, queued: Callable[[], int]) -> None:
        """See `Recorder.model`."""
        self._waiting[model] = queued
        self._queued.labels(model).set(0)
        self._loaded.labels(model, provider).set(1)


class MetricsPage:
    """An HTTP page with the metrics of a registry; its thread ends with `close`."""

    def __init__(self, registry: Any, *, host: str, port: int) -> None:
        """Serve `registry` on `host`:`port`, 0 = any free one.

        Raises:
            NetworkError: If the address cannot be bound.
        """
        from prometheus_client import start_http_server

        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise NetworkError(
                f"{host}:{port}: the metrics' port cannot be bound: {error.strerror or error}; "
                "give another --metrics-port (0 = any free one)"
            ) from None
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def summed_registry() -> Any:
    """Return a registry of the figures of all processes that write into `MULTIPROCESS_DIRECTORY`.

    Raises:
        MissingExtraError: If prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, multiprocess
    except ModuleNotFoundError:
        raise MissingExtraError("--metrics-port", "server") from None
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=os.environ[MULTIPROCESS_DIRECTORY])  # type: ignore[no-untyped-call]
    return registry


def forget_process(pid: int) -> None:
    """Take the gauges of a dead process out of the sum; its counters stay."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid, path=os.environ[MULTIPROCESS_DIRECTORY])  # type: ignore[no-untyped-call]
