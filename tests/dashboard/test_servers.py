"""Pages of a real `Metrics`, as a server writes them."""

import time

import pytest

pytest.importorskip("prometheus_client", reason="needs the extra 'dashboard'")

from isthmus.dashboard.scraping import metrics_url
from isthmus.dashboard.servers import Server, parse_page
from isthmus.runtime.errors import InputError, PeerError


@pytest.fixture
def metrics():
    from isthmus.runtime.server.metrics import Metrics

    metrics = Metrics()
    metrics.model("tiny", provider="CPUExecutionProvider", queued=lambda: 3)
    return metrics


def page(metrics):
    from prometheus_client import generate_latest

    return parse_page(generate_latest(metrics.registry).decode())


def frame(metrics, outcome="ok"):
    from isthmus.runtime.server.records import FrameRecord

    now_s = time.monotonic()
    metrics.frame(
        FrameRecord(
            model="tiny", frame_id="1", latents=1, outcome=outcome, received_s=now_s,
            decoded_s=now_s + 0.001, started_s=now_s + 0.003, ended_s=now_s + 0.008, compute_s=0.004,
            request_bytes=150, answer_bytes=40,
        )
    )  # fmt: skip


def test_two_readings_make_rates_batches_and_waits(metrics):
    server = Server("http://a:1/metrics")
    server.read(page(metrics), 10.0)
    assert server.shown()["models"][0]["frames_per_s"] is None
    for _ in range(30):
        frame(metrics)
    for _ in range(10):
        frame(metrics, "busy")
    for _ in range(6):
        metrics.batch("tiny", 5, 0.004)
    server.read(page(metrics), 12.0)
    (model,) = server.shown()["models"]
    assert (model["name"], model["provider"], model["queued"]) == ("tiny", "CPUExecutionProvider", 3.0)
    assert model["frames_per_s"] == 20.0
    assert model["outcomes_per_s"] == {"ok": 15.0, "busy": 5.0}
    assert model["bytes_in_per_s"] == 40 * 150 / 2
    assert model["batch"] == 5.0
    assert model["busy"] == pytest.approx(6 * 0.004 / 2)
    assert 0.001 <= model["stages"]["queue"]["p50"] <= 0.0025
    assert 0.005 <= model["stages"]["total"]["p99"] <= 0.01
    assert server.refused_share() == 0.25
    assert len(model["chart"]) == 2


def test_a_server_that_was_started_again_counts_from_zero(metrics):
    from isthmus.runtime.server.metrics import Metrics

    server = Server("http://a:1/metrics")
    frame(metrics)
    frame(metrics)
    server.read(page(metrics), 10.0)
    again = Metrics()
    again.model("tiny", provider="CPUExecutionProvider", queued=lambda: 0)
    frame(again)
    server.read(page(again), 11.0)
    assert server.shown()["models"][0]["frames_per_s"] is None
    frame(again)
    server.read(page(again), 12.0)
    assert server.shown()["models"][0]["frames_per_s"] == 1.0


def test_what_was_read_stays_shown_while_the_server_is_away(metrics):
    server = Server("http://a:1/metrics")
    server.read(page(metrics), 10.0)
    server.failed("Connection refused")
    shown = server.shown()
    assert shown["trouble"] == "Connection refused"
    assert [model["name"] for model in shown["models"]] == ["tiny"]
    server.read(page(metrics), 11.0)
    assert server.shown()["trouble"] == ""


@pytest.mark.parametrize("text", ["<html>", "python_info 1\n", "isthmus_frames_total{model= 1\n"])
def test_a_page_of_something_else_is_refused(text):
    with pytest.raises(PeerError, match="--metrics-port"):
        parse_page(text)


def test_addresses_of_pages():
    assert metrics_url("127.0.0.1:9100") == "http://127.0.0.1:9100/metrics"
    assert metrics_url("https://host:9100/other") == "https://host:9100/other"
    for wrong in ("file:///etc/passwd", "host", "http://host", "http://a:b@host:1", "http://host:99999"):
        with pytest.raises(InputError, match="give HOST:PORT"):
            metrics_url(wrong)
