"""The server's life: ready, healthy, draining, gone."""

import asyncio
import shutil
import signal
import socket

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from isthmus.runtime.errors import BundleError, InputError, NetworkError
from isthmus.runtime.server import ServerConfig, TailServer, run_until
from isthmus.runtime.wire import (
    SERVICE_NAME,
    InferenceStub,
    latent_request,
    oip,
    parse_answer,
    parse_stream_answer,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _frame(frame_id, *, model="tiny", budget_us=None):
    latent = np.full((1, 4, 4, 4), 1, np.uint8)
    return latent_request(model=model, frame_id=frame_id, latent_nchw=latent, budget_us=budget_us)


async def _health(server, name):
    stub = health_pb2_grpc.HealthStub(server.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status


async def test_health_answers_for_the_server_and_for_each_bundle(tiny_server):
    for name in ("", "tiny", SERVICE_NAME):
        assert await _health(tiny_server, name) == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await _health(tiny_server, "huge")
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


async def test_several_bundles_answer_under_their_own_names(
    start_server, tiny_bundle, make_tiny_bundle, tmp_path
):
    other = make_tiny_bundle(tmp_path / "other", name="other", seed=5)
    server = await start_server(tiny_bundle, other)
    assert server.models == ("tiny", "other")
    answers = [
        parse_answer(await server.stub.ModelInfer(_frame("1", model=model))).outputs_nc
        for model in ("tiny", "other")
    ]
    assert not np.allclose(answers[0], answers[1])
    assert await _health(server, "other") == SERVING


async def test_two_bundles_of_one_name_are_refused(tiny_bundle, tmp_path):
    twin = shutil.copytree(tiny_bundle, tmp_path / "twin")
    server = TailServer(ServerConfig(bundles=(tiny_bundle, twin), port=0, threads=1))
    with pytest.raises(InputError) as refused:
        await server.start()
    assert str(refused.value) == (
        f"{twin}: its name 'tiny' is that of {tiny_bundle} as well; "
        "serve one of them, or export one under another --name"
    )


async def test_an_altered_bundle_is_refused_before_the_port_is_bound(tiny_bundle, tmp_path):
    altered = shutil.copytree(tiny_bundle, tmp_path / "altered")
    tail = bytearray((altered / "tail.onnx").read_bytes())
    tail[len(tail) // 2] ^= 1
    (altered / "tail.onnx").write_bytes(tail)
    with pytest.raises(BundleError, match=r"tail\.onnx: SHA-256 differs"):
        await TailServer(ServerConfig(bundles=(altered,), port=0)).start()


async def test_a_taken_port_is_one_exact_line(tiny_bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError) as refused:
            await TailServer(ServerConfig(bundles=(tiny_bundle,), port=port)).start()
    assert str(refused.value) == (
        f"127.0.0.1:{port}: cannot be bound: Address already in use; "
        "stop what uses it, or give another --host or --port (0 = any free one)"
    )


async def test_two_servers_do_not_share_a_port(tiny_server, tiny_bundle):
    with pytest.raises(NetworkError, match="Address already in use"):
        await TailServer(ServerConfig(bundles=(tiny_bundle,), port=tiny_server.port)).start()


async def test_a_starting_server_is_alive_but_not_ready(tiny_bundle):
    opening, may_open = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow_open(bundle, config, decoders):
        loop.call_soon_threadsafe(opening.set)
        asyncio.run_coroutine_threadsafe(may_open.wait(), loop).result()
        raise BundleError("stop here")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = TailServer(ServerConfig(bundles=(tiny_bundle,), port=port), open_model=slow_open)
    starting = asyncio.create_task(server.start())
    await opening.wait()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = InferenceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest(service="tiny"))).status == NOT_SERVING
        assert (await stub.ServerLive(oip.ServerLiveRequest())).live
        assert not (await stub.ServerReady(oip.ServerReadyRequest())).ready
        assert not (await stub.ModelReady(oip.ModelReadyRequest(name="tiny"))).ready
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ModelInfer(_frame("1"))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert refused.value.details() == "the server is starting; try again when it is ready"
        # An agent asks this first: that there is no such model would be final.
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny"))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        may_open.set()
        with pytest.raises(BundleError, match="stop here"):
            await starting


async def test_a_drain_answers_every_accepted_frame(start_server, tiny_bundle, make_gated_backend):
    backend = make_gated_backend(max_batch=2)
    server = await start_server(tiny_bundle, backend=backend)
    watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest(service="tiny"))
    assert (await watch.read()).status == SERVING
    stream = server.stub.ModelStreamInfer()
    for frame_id in ("0", "1", "2", "3", "4"):
        await stream.write(_frame(frame_id))
    await stream.write(_frame("barrier", budget_us=-1))
    assert (await stream.read()).infer_response.id == "barrier"  # the server has the five before it
    await backend.started()
    draining = asyncio.create_task(server.server.drain(10.0))
    assert (await watch.read()).status == NOT_SERVING
    assert not draining.done()
    backend.let(10)
    answers = [parse_stream_answer(await stream.read()) for _ in range(5)]
    assert {answer.frame_id: answer.outcome for answer in answers} == dict.fromkeys("01234", "ok")
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.read()
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
    assert ended.value.details() == "the server is draining; connect to another"
    report = await draining
    assert report.complete
    assert report.outcomes == {"expired": 1, "ok": 5}
    assert report.drain_s < 5, "a watcher of our health must not hold up the drain"


async def test_frames_that_come_after_the_drain_began_are_refused(
    start_server, tiny_bundle, make_gated_backend
):
    backend = make_gated_backend()
    server = await start_server(tiny_bundle, backend=backend)
    accepted = server.stub.ModelInfer(_frame("1"))
    await backend.started()
    draining = asyncio.create_task(server.server.drain(10.0))
    await asyncio.sleep(0)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await server.stub.ModelInfer(_frame("2"))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    backend.let()
    assert parse_answer(await accepted).outcome == "ok"
    assert (await draining).complete


async def test_the_grace_ends_what_does_not_end_by_itself(start_server, tiny_bundle, make_gated_backend):
    backend = make_gated_backend()
    server = await start_server(tiny_bundle, backend=backend)
    stuck = server.stub.ModelInfer(_frame("1"))
    await backend.started()
    draining = asyncio.create_task(server.server.drain(0.05))
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await stuck
    backend.let()
    assert not (await draining).complete


async def test_a_stop_drains_and_reports(tiny_bundle):
    stops, ready = asyncio.Queue(), asyncio.Event()
    ports = []

    def on_ready(report):
        ports.append(report.port)
        ready.set()

    server = TailServer(ServerConfig(bundles=(tiny_bundle,), port=0, threads=1))
    running = asyncio.create_task(run_until(stops, server, on_ready))
    await ready.wait()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        answer = parse_answer(await InferenceStub(channel).ModelInfer(_frame("1")))
    assert answer.outcome == "ok"
    stops.put_nowait(signal.SIGTERM)
    report = await running
    assert report.complete
    assert report.outcomes == {"ok": 1}


async def test_a_second_stop_cuts_the_grace_short(tiny_bundle, make_gated_backend, open_gated):
    stops, ready = asyncio.Queue(), asyncio.Event()
    backend = make_gated_backend()
    ports = []

    def on_ready(report):
        ports.append(report.port)
        ready.set()

    config = ServerConfig(bundles=(tiny_bundle,), port=0, threads=1, grace_s=3600.0)
    server = TailServer(config, open_model=open_gated(backend))
    running = asyncio.create_task(run_until(stops, server, on_ready))
    await ready.wait()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        stuck = InferenceStub(channel).ModelInfer(_frame("1"))
        await backend.started()
        stops.put_nowait(signal.SIGTERM)
        stops.put_nowait(signal.SIGTERM)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await stuck
        backend.let()
        assert not (await running).complete
