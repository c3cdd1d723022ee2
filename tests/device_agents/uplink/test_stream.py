"""The uplink against real gRPC servers on loopback that behave as told."""

import grpc
import numpy as np
import pytest

from isthmus.runtime.wire import SERVICE_NAME, oip


async def test_frames_go_over_one_stream_and_answers_come_back(scripted_server, connect_uplink, eventually):
    server = await scripted_server()
    uplink, sink, _ = connect_uplink(server.address)
    await eventually(lambda: sink.capabilities)
    for frame in range(5):
        uplink.send(frame)
    await eventually(lambda: len(sink.answers) == 5)
    assert sink.answers == [(frame, "ok") for frame in range(5)]
    assert [request.id for request in server.requests] == [str(frame) for frame in range(5)]
    assert (server.streams, server.calls) == (1, 0)
    capability = sink.capabilities[0]
    assert (capability.server, capability.stream, capability.payload) == ("scripted 1", True, True)


async def test_without_the_stream_extension_each_frame_is_a_call(scripted_server, connect_uplink, eventually):
    server = await scripted_server(extensions=("isthmus_payload",))
    uplink, sink, _ = connect_uplink(server.address)
    await eventually(lambda: sink.capabilities)
    for frame in range(3):
        uplink.send(frame)
    await eventually(lambda: len(sink.answers) == 3)
    assert sorted(sink.answers) == [(0, "ok"), (1, "ok"), (2, "ok")]
    assert (server.streams, server.calls) == (0, 3)
    assert sink.capabilities[0].payload


@pytest.mark.parametrize("extensions", [None, (), ("sequence", "statistics")])
async def test_another_server_of_the_protocol_gets_plain_latents_in_calls(
    scripted_server, connect_uplink, eventually, extensions
):
    server = await scripted_server(extensions=extensions)
    uplink, sink, _ = connect_uplink(server.address, plain=True)
    await eventually(lambda: sink.capabilities)
    assert not sink.capabilities[0].payload
    assert not sink.capabilities[0].stream
    uplink.send(0)
    await eventually(lambda: sink.answers == [(0, "ok")])
    assert server.requests[0].inputs[0].name == "latent"


async def test_a_frame_that_went_stale_in_the_queue_is_not_sent(scripted_server, connect_uplink, eventually):
    server = await scripted_server()
    uplink, sink, _ = connect_uplink(server.address)
    await eventually(lambda: sink.capabilities)
    sink.stale = {0, 2}
    for frame in range(4):
        uplink.send(frame)
    await eventually(lambda: len(sink.answers) == 2)
    assert [request.id for request in server.requests] == ["1", "3"]


async def test_the_agent_may_start_first(scripted_server, connect_uplink, eventually):
    probe = await scripted_server()
    port = probe.port
    await probe.stop()
    _, sink, _ = connect_uplink(f"127.0.0.1:{port}")
    await eventually(lambda: len(sink.downs) >= 3)
    assert sink.capabilities == []
    assert "UNAVAILABLE" in sink.downs[0]
    await scripted_server(port=port)
    await eventually(lambda: sink.capabilities)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_a_full_queue_behind_a_call_is_busy_not_lost(scripted_server, connect_uplink, eventually, code):
    server = await scripted_server(extensions=(), reply=lambda request: (code, "Exceeds maximum queue size"))
    uplink, sink, _ = connect_uplink(server.address, plain=True)
    await eventually(lambda: sink.capabilities)
    uplink.send(0)
    await eventually(lambda: sink.answers == [(0, "busy")])
    assert sink.downs == []


async def test_foreign_and_repeated_ids_are_harmless(scripted_server, connect_uplink, eventually, replies):
    def confuse(request):
        right = replies["right"](request)
        foreign, nonsense, endless = (replies["right"](request) for _ in range(3))
        foreign.infer_response.id = "another-run.0"
        nonsense.infer_response.id = "-1"
        endless.infer_response.id = "9" * 5_000  # more digits than int() takes
        return [foreign, nonsense, endless, right, right]

    server = await scripted_server(reply=confuse)
    uplink, sink, _ = connect_uplink(server.address)
    await eventually(lambda: sink.capabilities)
    uplink.send(7)
    await eventually(lambda: len(sink.answers) == 2)
    assert sink.answers == [(7, "ok"), (7, "ok")]


async def _serve_oddly(name, stream):
    """Start a server called `name` whose stream is `stream`, and which answers single calls well."""

    async def describe_server(request, context):
        return oip.ServerMetadataResponse(name=name, version="1", extensions=["model_stream_infer"])

    async def describe_model(request, context):
        return oip.ModelMetadataResponse(name="tiny")

    async def call(request, context):
        response = oip.ModelInferResponse(
            model_name="tiny", id=request.id, raw_output_contents=[np.ones(3, "<f4").tobytes()]
        )
        response.outputs.add(name="logits", datatype="FP32", shape=[1, 3])
        return response

    def unary(method, request, response):
        return grpc.unary_unary_rpc_method_handler(
            method, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )

    handlers = {
        "ServerMetadata": unary(describe_server, oip.ServerMetadataRequest, oip.ServerMetadataResponse),
        "ModelMetadata": unary(describe_model, oip.ModelMetadataRequest, oip.ModelMetadataResponse),
        "ModelInfer": unary(call, oip.ModelInferRequest, oip.ModelInferResponse),
    }
    if stream is not None:

        async def answers(requests, context):
            async for request in requests:
                response = await call(request, context)
                response.model_version = stream
                yield response

        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            answers,
            request_deserializer=oip.ModelInferRequest.FromString,
            response_serializer=oip.ModelInferResponse.SerializeToString,
        )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        ("", "another kind than Triton's"),  # MLServer's bare answer, without a version and with one
        ("v1", "another kind than Triton's"),
        (None, "it has no stream"),
    ],
)
async def test_a_stream_of_another_kind_is_left_for_single_calls(connect_uplink, eventually, stream, why):
    server, address = await _serve_oddly("gateway", stream)
    try:
        uplink, sink, _ = connect_uplink(address, plain=True)
        await eventually(lambda: sink.capabilities)
        if stream is not None:  # else the first message is not waited for
            uplink.send(0)
        await eventually(lambda: len(sink.capabilities) == 2)
        assert [capability.stream for capability in sink.capabilities] == [True, False]
        assert why in sink.downs[0], sink.downs
        for frame in range(1, 4):
            uplink.send(frame)
        await eventually(lambda: len(sink.answers) == 3)
        assert sorted(sink.answers) == [(1, "ok"), (2, "ok"), (3, "ok")]
        assert len(sink.downs) == 1
    finally:
        await server.stop(None)


async def test_triton_streams_though_it_does_not_say_so(scripted_server, connect_uplink, eventually):
    server = await scripted_server(extensions=("classification", "model_configuration"), name="triton")
    uplink, sink, _ = connect_uplink(server.address, plain=True)
    await eventually(lambda: sink.capabilities)
    (capability,) = sink.capabilities
    assert (capability.stream, capability.lean, capability.payload, capability.config) == (
        True,
        False,
        False,
        True,
    )
    uplink.send(0)
    await eventually(lambda: sink.answers == [(0, "ok")])
    assert (server.streams, server.calls) == (1, 0)
