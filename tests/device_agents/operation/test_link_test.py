"""The arithmetic of trains, then real calls over a shaped loopback."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.device_agents.operation.link_test import measure_link, next_train, train_rate
from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.links import RateTrace, ShapingProxy
from isthmus.runtime.wire import Answer, answer_response
from isthmus.runtime.wire import oip_pb2 as oip


def test_the_spacing_of_arrivals_is_the_rate():
    assert train_rate([(1.0, 999), (1.1, 200), (1.3, 400)]) == pytest.approx(600 / 0.3)
    assert train_rate([(1.3, 400), (1.0, 999), (1.1, 200)]) == pytest.approx(2000)


@pytest.mark.parametrize("arrivals", [[], [(1.0, 5)], [(1.0, 5), (1.0, 5)]])
def test_what_cannot_be_told_is_none(arrivals):
    assert train_rate(arrivals) is None


@given(st.floats(1.0, 1e12), st.integers(10_000, 16_000_000))
def test_a_train_is_short_and_within_its_bytes(rate, most_bytes):
    messages, size = next_train(rate, most_bytes)
    assert 4 <= messages <= 64
    assert 500 <= size <= 16_000
    assert messages * size <= max(most_bytes / 4, 2000)
    assert messages * size / rate <= max(0.41, 2000 / rate)


def stamped(request: oip.ModelInferRequest) -> oip.ModelStreamInferResponse:
    answer = Answer(
        frame_id=request.id,
        outcome="expired",
        outputs_nc=np.empty((0, 0), np.float32),
        received_ns=time.monotonic_ns(),
    )
    return oip.ModelStreamInferResponse(infer_response=answer_response(answer, model="tiny", output=""))


@pytest.fixture(autouse=True)
def _live(monkeypatch, scripted_server_class):
    async def live(self, request, context):
        return oip.ServerLiveResponse(live=True)

    monkeypatch.setattr(scripted_server_class, "ServerLive", live)


@pytest.fixture
async def through_proxy():
    proxies = []

    async def shape(server, rate):
        proxy = ShapingProxy(RateTrace([(1.0, rate)]), delay_s=0.01)
        proxies.append(proxy)
        return f"127.0.0.1:{await proxy.start('127.0.0.1', 0, '127.0.0.1', server.port)}"

    yield shape
    for proxy in proxies:
        await proxy.close()


@pytest.mark.parametrize(("model", "clock"), [("tiny", "server"), ("", "completions")])
async def test_a_shaped_links_rate_and_round_trip_are_found(scripted_server, through_proxy, model, clock):
    def refuse_unknown(request):
        import grpc

        if request.model_name != "tiny":
            return grpc.StatusCode.NOT_FOUND, "unknown model"
        return stamped(request)

    server = await scripted_server(reply=refuse_unknown)
    address = await through_proxy(server, 150_000.0)
    report = await measure_link(address, model=model, most_bytes=120_000, longest_s=6.0)
    assert report.clock == clock
    assert len(report.rates) >= 3
    assert report.rate_bytes_per_s == pytest.approx(150_000, rel=0.12)
    assert report.rtt_s[0] >= 0.02
    assert list(report.rtt_s) == sorted(report.rtt_s)
    assert report.sent_bytes <= 120_000
    assert report.elapsed_s < 7
    # Nothing was asked to be computed in time.
    assert all(request.parameters["isthmus_budget_us"].int64_param == 0 for request in server.requests)


async def test_no_server_is_one_line():
    with pytest.raises(NetworkError, match=r"server 127\.0\.0\.1:1: UNAVAILABLE.*is it running"):
        await measure_link("127.0.0.1:1")


@pytest.mark.parametrize(("nbytes", "seconds"), [(10**9, 5), (100, 5), (10**6, 600), (10**6, 0)])
async def test_it_refuses_to_flood(nbytes, seconds):
    with pytest.raises(InputError, match="no load generator"):
        await measure_link("127.0.0.1:1", most_bytes=nbytes, longest_s=seconds)
