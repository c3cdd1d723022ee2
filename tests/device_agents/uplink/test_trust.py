"""What refusals mean for the next attempt, as values and against real servers."""

import asyncio
import time

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from isthmus.device_agents.uplink import stream
from isthmus.device_agents.uplink.trust import Denial, pushback_s, why_refused
from isthmus.runtime.errors import AccessError, NetworkError, PeerError
from isthmus.runtime.wire.tls import DEFAULT_SECURITY


def error(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="", **trailing):
    metadata = Metadata(*((name.replace("_", "-"), value) for name, value in trailing.items()))
    return AioRpcError(code, Metadata(), metadata, details)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("0", 0.0), ("250", 0.25), ("86400000", 60.0), ("-1", 60.0), ("soon", 60.0)],
)
def test_a_servers_wish_to_be_left_alone_is_heeded_up_to_a_minute(said, seconds):
    assert pushback_s(error(grpc_retry_pushback_ms=said)) == seconds


def test_who_says_nothing_wishes_nothing():
    assert pushback_s(error(other="1")) == pushback_s(error()) == pushback_s(PeerError("x")) == 0.0


def test_a_denial_lasts_when_nothing_else_came_between():
    denial, refusal = Denial(30.0), AccessError("revoked")
    assert not denial.lasts(refusal, 100.0)
    assert not denial.lasts(refusal, 129.0)
    assert denial.lasts(refusal, 130.0)
    assert not denial.lasts(None, 131.0)
    assert not denial.lasts(refusal, 132.0)
    assert not denial.lasts(NetworkError("no such model"), 200.0)
    assert not denial.lasts(refusal, 201.0)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED])
async def test_what_a_server_says_of_trust_is_said_in_its_words(code):
    found = await why_refused(
        error(code, "the call carries\nan unknown token"),
        server="h:1",
        model="tiny",
        security=DEFAULT_SECURITY,
    )
    assert type(found) is AccessError
    assert str(found) == "server h:1: the call carries an unknown token"
    assert found.exit_code == 8


async def test_an_agent_that_is_not_trusted_at_first_ends_at_once(scripted_server, connect_uplink):
    server = await scripted_server(reply=lambda _: (grpc.StatusCode.UNAUTHENTICATED, "an unknown token"))
    uplink, _, task = connect_uplink(server.address)
    while not task.done():
        uplink.send(0)
        await asyncio.sleep(0.01)
    with pytest.raises(AccessError, match="an unknown token"):
        task.result()


async def test_one_that_was_trusted_goes_on_for_a_while(
    scripted_server, connect_uplink, eventually, replies, monkeypatch
):
    monkeypatch.setattr(stream, "Denial", lambda: Denial(0.5))
    server = await scripted_server()
    uplink, sink, task = connect_uplink(server.address)
    await eventually(lambda: sink.capabilities)
    uplink.send(0)
    await eventually(lambda: sink.answers)

    async def refused(self, request, context):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "revoked")

    good = type(server).ServerMetadata
    server.ServerMetadata = refused.__get__(server)
    await server.stop()
    server = await server.start()
    await eventually(lambda: any("revoked" in why for why in sink.downs))
    assert not task.done(), "it may be about to be mended"
    server.ServerMetadata = good.__get__(server)
    await server.stop()
    server = await server.start()
    await eventually(lambda: len(sink.capabilities) == 2)
    uplink.send(1)
    await eventually(lambda: len(sink.answers) == 2)
    server.ServerMetadata = refused.__get__(server)
    await server.stop()
    server = await server.start()
    with pytest.raises(AccessError, match="revoked"):
        await asyncio.wait_for(task, 20)
    await server.stop()


async def test_an_attempt_is_not_repeated_before_the_server_wishes(
    scripted_server, connect_uplink, eventually
):
    server = await scripted_server()
    asked = []

    async def full(self, request, context):
        asked.append(time.monotonic())
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-retry-pushback-ms", "700"),))

    server.ServerMetadata = full.__get__(server)
    await server.stop()
    server = await server.start()
    connect_uplink(server.address)
    await eventually(lambda: len(asked) >= 2)
    await server.stop()
    assert asked[1] - asked[0] >= 0.65


async def test_a_call_refused_as_busy_carries_the_servers_wish(scripted_server, connect_uplink, eventually):
    reply = (grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-retry-pushback-ms", "1500"),))
    server = await scripted_server(reply=lambda _: reply, extensions=("isthmus_payload",))
    uplink, sink, _ = connect_uplink(server.address)
    wishes = []
    note = sink.on_answer

    def on_answer(frame, answer, now_s):
        wishes.append(answer.retry_after_s)
        note(frame, answer, now_s)

    sink.on_answer = on_answer
    await eventually(lambda: sink.capabilities)
    uplink.send(0)
    await eventually(lambda: sink.answers == [(0, "busy")])
    assert wishes == [1.5]


@pytest.mark.parametrize(("extensions", "gentle"), [(None, True), (("isthmus_payload",), False)])
async def test_a_server_that_is_not_ours_is_pinged_seldom_from_its_second_connection_on(
    scripted_server, connect_uplink, eventually, monkeypatch, extensions, gentle
):
    made = []
    channel_options = stream.channel_options

    def noted(**options):
        made.append(options["gentle"])
        return channel_options(**options)

    monkeypatch.setattr(stream, "channel_options", noted)
    server = await scripted_server(extensions=extensions)
    uplink, sink, _ = connect_uplink(server.address, plain=extensions is None)
    await eventually(lambda: sink.capabilities)
    await server.stop()
    uplink.send(0)  # without a stream only a call shows that nobody is there
    await eventually(lambda: sink.downs)
    await server.start()
    await eventually(lambda: len(sink.capabilities) == 2)
    assert (made[0], made[-1]) == (False, gentle)
