"""The uplink against real gRPC servers on loopback that behave as told."""

import asyncio
import time

import grpc
import numpy as np
import pytest

from isthmus.device_agents.uplink import stream
from isthmus.device_agents.uplink.roster import Roster
from isthmus.runtime.errors import NetworkError, PeerError
from isthmus.runtime.links import ShapingProxy
from isthmus.runtime.wire import EXTENSIONS, SERVICE_NAME, oip


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


async def test_a_server_that_goes_and_comes_back_is_found_again(scripted_server, connect_uplink, eventually):
    server = await scripted_server()
    uplink, sink, _ = connect_uplink(server.address)
    await eventually(lambda: sink.capabilities)
    uplink.send(0)
    await eventually(lambda: sink.answers)
    await server.stop()
    await eventually(lambda: sink.downs)
    again = await scripted_server(port=server.port)
    await eventually(lambda: len(sink.capabilities) == 2)
    uplink.send(1)
    await eventually(lambda: len(sink.answers) == 2)
    assert [request.id for request in again.requests] == ["1"]


async def test_a_frame_that_is_sent_while_it_finds_out_why_the_connection_was_lost_goes_nowhere(
    scripted_server, connect_uplink, eventually, monkeypatch
):
    why_refused = stream.why_refused

    async def find_out(*arguments, **options):
        uplink.send(99)
        return await why_refused(*arguments, **options)

    monkeypatch.setattr(stream, "why_refused", find_out)
    server = await scripted_server()
    uplink, sink, _ = connect_uplink(server.address)
    await eventually(lambda: sink.capabilities)
    uplink.send(0)
    await eventually(lambda: sink.answers)
    await server.stop()
    await eventually(lambda: sink.downs)
    again = await scripted_server(port=server.port)
    await eventually(lambda: len(sink.capabilities) == 2)
    uplink.send(1)
    await eventually(lambda: len(sink.answers) == 2)
    # The sink was told of the loss after it, so it has ended that frame: it must not be asked for it again.
    assert [request.id for request in again.requests] == ["1"]


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


@pytest.mark.parametrize("where", ["description", "answer"])
async def test_bytes_that_are_no_message_end_it_with_one_line(connect_uplink, eventually, where):
    garbage = b"\xff\xff\xff"
    metadata = oip.ServerMetadataResponse(name="other", extensions=EXTENSIONS).SerializeToString()

    async def describe_server(request, context):
        return garbage if where == "description" else metadata

    async def describe_model(request, context):
        return oip.ModelMetadataResponse(name="tiny").SerializeToString()

    async def answer(request, context):
        return garbage

    async def answers(requests, context):
        async for _ in requests:
            yield garbage

    handlers = {
        "ServerMetadata": grpc.unary_unary_rpc_method_handler(describe_server),
        "ModelMetadata": grpc.unary_unary_rpc_method_handler(describe_model),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(answer),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(answers),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    uplink, sink, task = connect_uplink(f"127.0.0.1:{port}")
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


async def test_a_server_that_hangs_is_given_up(scripted_server, connect_uplink, eventually, replies):
    server = await scripted_server(reply=replies["silent"])
    uplink, sink, _ = connect_uplink(server.address, answer_timeout_s=5.0)
    await eventually(lambda: sink.capabilities)
    uplink.send(0)
    await eventually(lambda: server.requests)
    now_s = asyncio.get_running_loop().time()
    uplink.check(now_s + 4.9)
    await asyncio.sleep(0)
    assert sink.downs == []
    uplink.check(now_s + 5.1)
    await eventually(lambda: len(sink.capabilities) == 2)
    assert sink.downs == ["a frame had no answer for 5 s"]
    uplink.check(now_s + 1000)
    assert len(sink.downs) == 1


@pytest.mark.slow
async def test_a_link_with_seconds_of_delay_is_connected_over(scripted_server, connect_uplink, eventually):
    server = await scripted_server()
    proxy = ShapingProxy(None, delay_s=2.0)
    port = await proxy.start("127.0.0.1", 0, "127.0.0.1", server.port)
    try:
        _, sink, _ = connect_uplink(f"127.0.0.1:{port}")
        await eventually(lambda: sink.capabilities, within_s=60.0)
        # Short attempts have failed before: a short one cannot get through.
        assert len(sink.downs) == 3
    finally:
        await proxy.close()


class LossyForwarder:
    """Forwards TCP connections; those that are open when `freeze` is called never carry a byte again."""

    def __init__(self, port):
        self.port, self.frozen, self.tasks, self.opened = port, asyncio.Event(), set(), 0

    async def start(self):
        self.server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def _forward(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        frozen, self.opened = self.frozen, self.opened + 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.port)
        pipes = ((reader, there_writer), (there_reader, writer))
        try:
            await asyncio.gather(*(self._pipe(source, sink, frozen) for source, sink in pipes))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            there_writer.close()

    async def _pipe(self, source, sink, frozen):
        while data := await source.read(65536):
            if frozen.is_set():
                await asyncio.Event().wait()
            sink.write(data)
            await sink.drain()

    def freeze(self):
        self.frozen.set()
        self.frozen = asyncio.Event()

    async def close(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_a_link_that_is_back_is_noticed_before_tcp_sends_again(
    scripted_server, connect_uplink, eventually
):
    server = await scripted_server()
    forwarder = LossyForwarder(server.port)
    port = await forwarder.start()
    try:
        uplink, sink, _ = connect_uplink(f"127.0.0.1:{port}", stuck_s=0.3)
        await eventually(lambda: sink.capabilities)
        uplink.send(0)
        await eventually(lambda: sink.answers == [(0, "ok")])
        forwarder.freeze()
        uplink.send(1)
        await eventually(lambda: len(sink.capabilities) == 2)
        assert sink.downs == ["no answer for 0.3 s, while a new connection gets through"]
        uplink.send(2)
        await eventually(lambda: sink.answers[-1] == (2, "ok"))
    finally:
        await forwarder.close()


async def test_a_server_that_is_merely_slow_keeps_its_connection(
    scripted_server, connect_uplink, eventually, replies
):
    server = await scripted_server(reply=replies["slow"])
    uplink, sink, _ = connect_uplink(server.address, stuck_s=0.1)
    await eventually(lambda: sink.capabilities)
    for frame in range(12):
        uplink.send(frame)
    await eventually(lambda: len(sink.answers) == 12)
    assert sink.downs == []


@pytest.mark.parametrize(
    ("servers", "through", "from_its_begin"), [(1, False, True), (1, True, False), (2, False, False)]
)
async def test_an_attempt_that_took_long_needs_no_pause_on_top_unless_others_wait_or_it_was_a_connection(
    connect_uplink, monkeypatch, servers, through, from_its_begin
):
    ended, failed = [], asyncio.get_running_loop().create_future()

    async def attempt(self, server):
        await asyncio.sleep(0.02)
        self._through = through
        ended.append(time.monotonic())
        raise stream._LostError("as told")

    monkeypatch.setattr(stream.Uplink, "_attempt", attempt)
    monkeypatch.setattr(
        Roster,
        "failed",
        lambda self, server, now_s, refusal, **_: failed.done() or failed.set_result(now_s),
    )
    connect_uplink(*(f"127.0.0.1:{port}" for port in range(1, servers + 1)))
    assert (await asyncio.wait_for(failed, 5) < ended[0] - 0.01) is from_its_begin
