"""Metrics, spans and the log's lines: each tells what became of frames."""

import json
import logging
import socket
import sys
import urllib.request

import numpy as np
import pytest

from isthmus.runtime.errors import MissingExtraError, NetworkError
from isthmus.runtime.server import ServerConfig, TailServer
from isthmus.runtime.server.json_log import JsonFormatter
from isthmus.runtime.server.records import FrameRecord
from isthmus.runtime.wire import InferenceStub, latent_request

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _record(**changes):
    return FrameRecord(
        **{
            "model": "tiny",
            "frame_id": "7",
            "outcome": "ok",
            "latents": 1,
            "request_bytes": 300,
            "answer_bytes": 12,
            "received_s": 10.0,
            "decoded_s": 10.001,
            "started_s": 10.003,
            "compute_s": 0.004,
            "ended_s": 10.008,
            **changes,
        }
    )


@pytest.fixture
def metrics():
    pytest.importorskip("prometheus_client")
    from isthmus.runtime.server.metrics import Metrics

    return Metrics()


@pytest.fixture
def page(metrics):
    from isthmus.runtime.server.metrics import MetricsPage

    page = MetricsPage(metrics.registry, host="127.0.0.1", port=0)
    yield lambda: urllib.request.urlopen(f"http://127.0.0.1:{page.port}/metrics", timeout=20).read().decode()
    page.close()


def test_a_frame_shows_in_the_metrics(metrics, page):
    metrics.model("tiny", provider="CPUExecutionProvider", queued=lambda: 3)
    metrics.frame(_record())
    metrics.frame(_record(outcome="busy", decoded_s=None, started_s=None, compute_s=0.0, answer_bytes=0))
    metrics.batch("tiny", 5, 0.004)
    lines = page().splitlines()
    for line in (
        'isthmus_frames_total{model="tiny",outcome="ok"} 1.0',
        'isthmus_frames_total{model="tiny",outcome="busy"} 1.0',
        'isthmus_payload_bytes_total{direction="in",model="tiny"} 600.0',
        'isthmus_payload_bytes_total{direction="out",model="tiny"} 12.0',
        'isthmus_stage_seconds_count{model="tiny",stage="queue"} 1.0',
        'isthmus_stage_seconds_bucket{le="0.0025",model="tiny",stage="queue"} 1.0',
        'isthmus_stage_seconds_bucket{le="0.001",model="tiny",stage="queue"} 0.0',
        'isthmus_batch_latents_bucket{le="8.0",model="tiny"} 1.0',
        'isthmus_batch_latents_bucket{le="4.0",model="tiny"} 0.0',
        'isthmus_queued_latents{model="tiny"} 3.0',
        'isthmus_model_loaded{model="tiny",provider="CPUExecutionProvider"} 1.0',
    ):
        assert line in lines


async def test_a_server_counts_what_it_serves(metrics, page, tiny_bundle):
    import grpc

    server = TailServer(ServerConfig(bundles=(tiny_bundle,), port=0, threads=1), recorders=[metrics])
    report = await server.start()
    latent = np.full((1, 4, 4, 4), 100, np.uint8)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{report.port}") as channel:
        request = latent_request(model="tiny", frame_id="1", latent_nchw=latent, budget_us=None)
        await InferenceStub(channel).ModelInfer(request)
    await server.drain()
    lines = page().splitlines()
    assert 'isthmus_frames_total{model="tiny",outcome="ok"} 1.0' in lines
    assert 'isthmus_batch_latents_count{model="tiny"} 1.0' in lines
    assert 'isthmus_payload_bytes_total{direction="in",model="tiny"} 64.0' in lines


def test_a_taken_metrics_port_is_one_line(metrics):
    from isthmus.runtime.server.metrics import MetricsPage

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError, match=rf"^127\.0\.0\.1:{port}: the metrics' port cannot be bound: "):
            MetricsPage(metrics.registry, host="127.0.0.1", port=port)


@pytest.mark.parametrize(
    ("module", "name", "flag", "extra"),
    [("metrics", "Metrics", "--metrics-port", "server"), ("tracing", "Tracer", "--traces", "otel")],
)
def test_what_is_not_installed_is_named(monkeypatch, module, name, flag, extra):
    import importlib

    made = getattr(importlib.import_module(f"isthmus.runtime.server.{module}"), name)
    for missing in ("prometheus_client", "opentelemetry.trace.propagation.tracecontext"):
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError) as refused:
        made()
    assert str(refused.value) == f"{flag} needs an optional dependency: pip install 'isthmus[{extra}]'"


@pytest.fixture
def spans():
    """Return a tracer and the spans it has ended."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from isthmus.runtime.server.tracing import Tracer

    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = Tracer(provider)
    yield tracer, lambda: {span.name: span for span in exporter.get_finished_spans()}
    tracer.close()


def test_a_frame_is_a_span_with_its_stages_within_the_callers(spans):
    tracer, ended = spans
    tracer.frame(_record(parent=PARENT))
    found = ended()
    assert list(found) == ["decode", "queue", "compute", "answer", "frame"]
    frame = found["frame"]
    assert f"{frame.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{frame.parent.span_id:016x}" == PARENT.split("-")[2]
    assert frame.attributes["isthmus.frame_id"] == "7"
    lasted_ms = {name: round((span.end_time - span.start_time) / 1e6, 3) for name, span in found.items()}
    assert lasted_ms == {"decode": 1.0, "queue": 2.0, "compute": 4.0, "answer": 1.0, "frame": 8.0}
    assert all(found[name].parent.span_id == frame.context.span_id for name in lasted_ms if name != "frame")


def test_a_refused_frame_is_a_span_without_stages(spans):
    tracer, ended = spans
    tracer.frame(_record(outcome="busy", decoded_s=None, started_s=None, compute_s=0.0))
    assert list(ended()) == ["frame"]
    assert not ended()["frame"].status.is_ok


async def test_a_callers_traceparent_comes_in_with_its_metadata(spans, tiny_bundle):
    import grpc

    tracer, ended = spans
    server = TailServer(ServerConfig(bundles=(tiny_bundle,), port=0, threads=1), recorders=[tracer])
    report = await server.start()
    latent = np.full((1, 4, 4, 4), 100, np.uint8)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{report.port}") as channel:
        request = latent_request(model="tiny", frame_id="1", latent_nchw=latent, budget_us=None)
        await InferenceStub(channel).ModelInfer(request, metadata=(("traceparent", PARENT),))
    await server.drain()
    assert f"{ended()['frame'].context.trace_id:032x}" == PARENT.split("-")[1]


def test_a_line_of_the_log_is_an_object():
    record = logging.makeLogRecord(
        {"name": "isthmus.server", "levelno": 30, "levelname": "WARNING", "msg": "a %s", "args": ("b",)}
    )
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["logger"], line["message"]) == ("warning", "isthmus.server", "a b")
    assert line["time"].endswith("+00:00")


def test_an_exception_stays_on_the_line():
    try:
        raise ValueError("x")
    except ValueError:
        record = logging.LogRecord("n", 40, "f", 1, "failed", (), sys.exc_info())
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert "ValueError: x" in json.loads(text)["exception"]
