"""What a server refuses, and what cannot be an answer: the way to it ends with one line, or goes on."""

import asyncio

import grpc
import numpy as np
import pytest

from isthmus.runtime.errors import NetworkError, PeerError
from isthmus.runtime.wire import EXTENSIONS, SERVICE_NAME, Answer, answer_response, oip


async def test_an_unknown_model_ends_it_with_one_line(scripted_server, connect_uplink):
    server = await scripted_server()
    _, _, task = connect_uplink(server.address, model="other")
    with pytest.raises(NetworkError, match=r"has no model 'other' .*unknown model.*--model"):
        await asyncio.wait_for(task, 5)


async def test_a_server_of_another_kind_ends_it(connect_uplink):
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        _, _, task = connect_uplink(f"127.0.0.1:{port}")
        with pytest.raises(NetworkError, match="does not speak the Open Inference Protocol"):
            await asyncio.wait_for(task, 5)
    finally:
        await server.stop(None)


async def test_another_bundle_under_the_same_name_ends_it(scripted_server, connect_uplink):
    server = await scripted_server(models={"tiny": (-1, 8, 4, 4)})
    _, _, task = connect_uplink(server.address)
    with pytest.raises(PeerError, match=r"takes latents \(8, 4, 4\), bundle tiny gives \(4, 4, 4\)"):
        await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("extensions", [("isthmus_payload", "model_stream_infer"), ("isthmus_payload",)])
async def test_a_refusal_is_final_until_the_server_has_answered_once(
    scripted_server, connect_uplink, eventually, extensions, replies
):
    refuse = (grpc.StatusCode.INVALID_ARGUMENT, "table id is unknown")
    server = await scripted_server(extensions=extensions)
    uplink, sink, task = connect_uplink(server.address)
    await eventually(lambda: sink.capabilities)
    uplink.send(0)
    await eventually(lambda: sink.answers)
    server.reply = lambda request: refuse
    uplink.send(1)
    await eventually(lambda: len(sink.capabilities) == 2)
    assert "table id is unknown" in sink.downs[0]
    assert not task.done()

    fresh, fresh_sink, fresh_task = connect_uplink(server.address)
    await eventually(lambda: fresh_sink.capabilities)
    fresh.send(0)
    with pytest.raises(PeerError, match="refuses model 'tiny': INVALID_ARGUMENT: table id is unknown"):
        await asyncio.wait_for(fresh_task, 5)


@pytest.mark.parametrize("extensions", [("isthmus_payload", "model_stream_infer"), ("isthmus_payload",)])
async def test_a_malformed_answer_is_final_only_at_first(
    scripted_server, connect_uplink, eventually, extensions, replies
):
    server = await scripted_server(extensions=extensions)
    uplink, sink, task = connect_uplink(server.address)
    await eventually(lambda: sink.capabilities)
    uplink.send(0)
    await eventually(lambda: sink.answers)
    server.reply = replies["malformed"]
    uplink.send(1)
    await eventually(lambda: sink.downs)
    assert "INT9" in sink.downs[0]
    await eventually(lambda: len(sink.capabilities) == 2)
    assert not task.done()


async def _serve_bytes(name, *, stream, description=None, call=None):
    """Start a server of model "tiny" that yields what `stream` makes of each request; return its address too.

    `description` stands in for what it says of itself, `call` answers single calls; without, it has none.
    """

    def returning(answer):
        async def method(request, context):
            return answer

        return grpc.unary_unary_rpc_method_handler(method)

    async def answers(requests, context):
        async for request in requests:
            yield stream(request)

    said = oip.ServerMetadataResponse(name=name, extensions=EXTENSIONS).SerializeToString()
    handlers = {
        "ServerMetadata": returning(said if description is None else description),
        "ModelMetadata": returning(oip.ModelMetadataResponse(name="tiny").SerializeToString()),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(answers),
    }
    if call is not None:
        handlers["ModelInfer"] = returning(call)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


@pytest.mark.parametrize("where", ["description", "answer"])
async def test_bytes_that_are_no_message_end_it_with_one_line(connect_uplink, eventually, where):
    garbage = b"\xff\xff\xff"
    description = garbage if where == "description" else None
    server, address = await _serve_bytes(
        "other", stream=lambda request: garbage, description=description, call=garbage
    )
    uplink, sink, task = connect_uplink(address)
    try:
        if where == "answer":  # on the stream it may be another kind of stream; by itself it is nothing
            await eventually(lambda: sink.capabilities)
            uplink.send(0)
            await eventually(lambda: len(sink.capabilities) == 2)
            uplink.send(1)
        with pytest.raises(PeerError, match="no message"):
            await asyncio.wait_for(task, 5)
    finally:
        await server.stop(None)


async def test_a_stream_that_answers_nonsense_for_a_while_is_a_stream_again(connect_uplink, eventually):
    nonsense = False

    def answered(request):
        frame_id = oip.ModelInferRequest.FromString(request).id
        answer = Answer(frame_id=frame_id, outcome="ok", outputs_nc=np.zeros((1, 3), np.float32))
        response = answer_response(answer, model="tiny", output="logits")
        right = oip.ModelStreamInferResponse(infer_response=response).SerializeToString()
        return b"\xff\xff\xff" if nonsense else right

    server, address = await _serve_bytes("flaky", stream=answered)
    try:
        uplink, sink, _ = connect_uplink(address)
        await eventually(lambda: sink.capabilities)
        uplink.send(0)
        await eventually(lambda: sink.answers)
        nonsense = True
        # In the middle of a stream; first on one, which may be of another kind; by a call: there is none.
        for connections in (2, 3, 4):
            uplink.send(connections)
            await eventually(lambda made=connections: len(sink.capabilities) == made)
        nonsense = False
        assert [capability.stream for capability in sink.capabilities] == [True, True, False, True]
        uplink.send(9)
        await eventually(lambda: sink.answers[-1] == (9, "ok"))
    finally:
        await server.stop(None)
