"""What a message of our wire costs on an emulated link; the estimator's default says so."""

import asyncio

import grpc.aio
import pytest

from isthmus.runtime.control import DEFAULT_OVERHEAD_BYTES
from isthmus.runtime.links import ShapingProxy
from isthmus.runtime.wire import (
    CHANNEL_OPTIONS,
    InferenceStub,
    add_servicer,
    lean_request,
    oip,
    server_options,
)


class Echo:
    """Answers every frame of a stream with an empty answer."""

    async def ModelStreamInfer(self, requests, context):  # noqa: N802 - the protocol's name
        async for request in requests:
            yield oip.ModelStreamInferResponse(infer_response=oip.ModelInferResponse(id=request.id))

    def __getattr__(self, name):
        async def refuse(request, context):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, name)

        return refuse


@pytest.mark.parametrize("payload_bytes", [60, 400])
async def test_the_default_overhead_is_what_a_frame_costs(payload_bytes):
    server = grpc.aio.server(options=server_options())
    add_servicer(Echo(), server)
    server_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    proxy = ShapingProxy(None)
    port = await proxy.start("127.0.0.1", 0, "127.0.0.1", server_port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
        call = InferenceStub(channel).ModelStreamInfer()

        async def exchange(frame):
            await call.write(
                lean_request(
                    model="" if frame else "digits-cnn",
                    frame_id=str(frame),
                    payload=b"x" * payload_bytes,
                    budget_us=120_000,
                )
            )
            await call.read()

        await exchange(0)  # the connection's own beginning
        before, _ = proxy.delivered_bytes
        for frame in range(1, 101):
            await exchange(frame)
        await asyncio.sleep(0.05)  # window updates that follow the last answer
        after, _ = proxy.delivered_bytes
        call.cancel()
    await proxy.close()
    await server.stop(None)
    overhead = (after - before) / 100 - payload_bytes
    assert overhead == pytest.approx(DEFAULT_OVERHEAD_BYTES, abs=10)
