"""Real calls to a real server that asks who calls, and how much one client may have."""

import asyncio

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from isthmus.runtime.server import identity
from isthmus.runtime.wire import InferenceStub, latent_request, oip, parse_stream_answer
from isthmus.runtime.wire.tls import ClientSecurity

TOKEN, OTHER = "0123456789abcdef", "fedcba9876543210"
PATIENCE_S = 20


@pytest.fixture(autouse=True)
def _always_look(monkeypatch):
    monkeypatch.setattr(identity, "_LOOK_EVERY_S", 0.0)


@pytest.fixture
def secret(tmp_path):
    """Return `write(name, text)`, which writes a file that its owner alone may read."""

    def write(name, text):
        file = tmp_path / name
        file.write_text(text)
        file.chmod(0o600)
        return file

    return write


@pytest.fixture
async def connect():
    """Return `connect(running, security) -> stub`."""
    channels = []

    def open_stub(running, security):
        address = f"127.0.0.1:{running.port}"
        channels.append(security.channel(address))
        return InferenceStub(channels[-1], security.metadata(address))

    yield open_stub
    for channel in channels:
        await channel.close()


def frame(model="tiny", number=0):
    latent = np.full((1, 4, 4, 4), 100, np.uint8)
    return latent_request(model=model, frame_id=str(number), latent_nchw=latent, budget_us=None)


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call, PATIENCE_S)
    return caught.value


async def first_answer(stub, **options):
    call = stub.ModelStreamInfer()
    await call.write(frame(**options))
    return parse_stream_answer(await asyncio.wait_for(call.read(), PATIENCE_S))


async def test_a_device_with_a_certificate_is_served_by_calls_and_streams(
    start_server, tiny_bundle, pki, connect
):
    stub = connect(await start_server(tiny_bundle, **pki.serving()), pki.client())
    assert len((await stub.ModelInfer(frame())).raw_output_contents) == 1
    assert (await first_answer(stub)).outcome == "ok"


async def test_a_revoked_device_loses_its_open_stream_and_gets_no_new_one(
    start_server, tiny_bundle, pki, connect
):
    stub = connect(await start_server(tiny_bundle, **pki.serving()), pki.client())
    call = stub.ModelStreamInfer()
    await call.write(frame())
    assert parse_stream_answer(await call.read()).outcome == "ok"
    pki.revoke("camera-1")
    await call.write(frame())
    error = await refused(call.read())
    assert (error.code(), error.details()) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "the certificate of 'camera-1' is revoked; ask who runs the server for another",
    )
    assert (await refused(stub.ModelInfer(frame()))).code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await refused(first_answer(stub))).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_tokens_go_with_every_call(start_server, tiny_bundle, connect, secret):
    running = await start_server(tiny_bundle, token_file=secret("tokens", f"camera-1 {TOKEN}"))
    good = connect(running, ClientSecurity(token_file=secret("mine", TOKEN)))
    assert (await first_answer(good)).outcome == "ok"
    assert (await good.ModelReady(oip.ModelReadyRequest(name="tiny"))).ready
    for security, reason in (
        (ClientSecurity(token_file=secret("wrong", OTHER)), "an unknown token"),
        (ClientSecurity(), "no bearer token"),
    ):
        stub = connect(running, security)
        for call in (
            stub.ServerMetadata(oip.ServerMetadataRequest()),
            stub.ModelInfer(frame()),
            first_answer(stub),
        ):
            error = await refused(call)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert reason in error.details()


async def test_health_is_open_to_whoever_asks(start_server, tiny_bundle, secret):
    running = await start_server(tiny_bundle, token_file=secret("tokens", f"camera-1 {TOKEN}"))
    answer = await health_pb2_grpc.HealthStub(running.channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_bundle_is_for_those_on_its_list(
    start_server, tiny_bundle, make_tiny_bundle, tmp_path, connect, secret
):
    other = make_tiny_bundle(tmp_path / "other", name="other")
    running = await start_server(
        tiny_bundle,
        other,
        token_file=secret("tokens", f"camera-1 {TOKEN}\ncamera-2 {OTHER}"),
        allow={"tiny": ("camera-1",), "other": ("*",)},
    )
    stub = connect(running, ClientSecurity(token_file=secret("mine", OTHER)))
    assert (await first_answer(stub, model="other")).outcome == "ok"
    line = "client 'camera-2' may not use model 'tiny'; ask who runs the server to allow it"
    for call in (
        stub.ModelInfer(frame()),
        stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny")),
        stub.ModelReady(oip.ModelReadyRequest(name="tiny")),
        first_answer(stub),
    ):
        error = await refused(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, line)
    for call in (
        stub.RepositoryIndex(oip.RepositoryIndexRequest()),
        stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="other")),
        stub.ModelStatistics(oip.ModelStatisticsRequest()),
    ):
        error = await refused(call)
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "@operators" in error.details()


async def test_credit_is_shared_by_a_clients_streams_and_the_rest_is_busy(
    start_server, tiny_bundle, make_gated_backend, connect
):
    backend = make_gated_backend(max_batch=1)
    running = await start_server(tiny_bundle, backend=backend, client_credit=3, max_batch=1)
    calls = [running.stub.ModelStreamInfer() for _ in range(2)]
    for number in range(4):
        await calls[number % 2].write(frame(number=number))
        if number == 0:
            await backend.started()
    # The fourth, whichever stream it is on, finds no credit; nothing is computed until the gate opens.
    reads = [asyncio.create_task(call.read()) for call in calls]
    done, waiting = await asyncio.wait(reads, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    (answer,) = (parse_stream_answer(task.result()) for task in done)
    assert answer.outcome == "busy"
    assert "has 3 frames in flight" in answer.error
    unary = await refused(running.stub.ModelInfer(frame()))
    assert unary.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(unary.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    backend.let(100)
    outcomes = [parse_stream_answer(await asyncio.wait_for(task, PATIENCE_S)).outcome for task in waiting]
    outcomes += [
        parse_stream_answer(await asyncio.wait_for(calls[index].read(), PATIENCE_S)).outcome
        for index in (0, 1)
    ]
    assert outcomes == ["ok", "ok", "ok"]
    assert (await first_answer(running.stub)).outcome == "ok", "the credit is given back"


async def test_a_stream_too_many_is_told_when_to_come_back(start_server, tiny_bundle):
    running = await start_server(tiny_bundle, max_streams_per_client=2)
    held = [running.stub.ModelStreamInfer() for _ in range(2)]
    for call in held:
        await call.write(frame())
        await call.read()
    error = await refused(first_answer(running.stub))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "has 2 streams, as many as it may" in error.details()
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    held[0].cancel()
    for _ in range(100):
        try:
            assert (await first_answer(running.stub)).outcome == "ok"
        except grpc.aio.AioRpcError:  # until the server has seen the cancellation
            continue
        return
    pytest.fail("the place of a stream that ended was never given back")


async def test_credit_of_a_stream_that_is_cut_off_is_given_back(
    start_server, tiny_bundle, make_gated_backend
):
    backend = make_gated_backend(max_batch=1)
    running = await start_server(tiny_bundle, backend=backend, client_credit=2, max_batch=1)
    call = running.stub.ModelStreamInfer()
    for number in range(2):
        await call.write(frame(number=number))
    await backend.started()
    call.cancel()
    backend.let(100)
    for _ in range(100):
        answer = await first_answer(running.stub)
        if answer.outcome == "ok":
            return
        assert answer.outcome == "busy"
    pytest.fail("the credit of a stream that was cut off was never given back")


async def test_a_connection_too_many_is_closed(start_server, tiny_bundle, connect):
    running = await start_server(tiny_bundle, max_connections=2)
    stubs = [connect(running, ClientSecurity()) for _ in range(3)]
    for stub in stubs[:2]:
        assert (await stub.ServerLive(oip.ServerLiveRequest())).live
    error = await refused(stubs[2].ServerLive(oip.ServerLiveRequest()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
