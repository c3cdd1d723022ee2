"""The stub and the registration, over real channels, with a servicer that only echoes."""

# The methods' names are the protocol's.
# ruff: noqa: N802

import asyncio

import grpc
import pytest

from isthmus.runtime.wire import InferenceStub, add_servicer, oip


class Echo:
    async def ServerLive(self, request, context):
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request, context):
        return oip.ServerReadyResponse(ready=True)

    async def ModelReady(self, request, context):
        return oip.ModelReadyResponse(ready=request.name == "m")

    async def ServerMetadata(self, request, context):
        return oip.ServerMetadataResponse(name="echo")

    async def ModelMetadata(self, request, context):
        return oip.ModelMetadataResponse(name=request.name)

    async def ModelInfer(self, request, context):
        return oip.ModelInferResponse(id=request.id)

    async def ModelStreamInfer(self, requests, context):
        async for request in requests:
            yield oip.ModelStreamInferResponse(infer_response=oip.ModelInferResponse(id=request.id))


@pytest.fixture
async def port():
    server = grpc.aio.server()
    add_servicer(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


async def test_every_method_answers_over_an_aio_channel(port):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = InferenceStub(channel)
        assert (await stub.ServerLive(oip.ServerLiveRequest())).live
        assert (await stub.ServerReady(oip.ServerReadyRequest())).ready
        assert (await stub.ModelReady(oip.ModelReadyRequest(name="m"))).ready
        assert (await stub.ServerMetadata(oip.ServerMetadataRequest())).name == "echo"
        assert (await stub.ModelMetadata(oip.ModelMetadataRequest(name="m"))).name == "m"
        assert (await stub.ModelInfer(oip.ModelInferRequest(id="5"))).id == "5"
        call = stub.ModelStreamInfer()
        for frame_id in ("1", "2"):
            await call.write(oip.ModelInferRequest(id=frame_id))
            assert (await call.read()).infer_response.id == frame_id
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_the_stub_works_over_a_blocking_channel_as_well(port):
    def ask():
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = InferenceStub(channel)
            infer = stub.ModelInfer(oip.ModelInferRequest(id="5")).id
            stream = stub.ModelStreamInfer(iter([oip.ModelInferRequest(id="6")]))
            return infer, [answer.infer_response.id for answer in stream]

    assert await asyncio.to_thread(ask) == ("5", ["6"])
