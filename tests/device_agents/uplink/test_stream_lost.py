"""Connections that are lost, stand still or take long: left for a new one when that helps, and only then."""

import asyncio
import time

import pytest

from isthmus.device_agents.uplink import stream
from isthmus.device_agents.uplink.roster import Roster
from isthmus.runtime.links import ShapingProxy


@pytest.fixture
def come_back(scripted_server, connect_uplink, eventually):
    """Return `come_back(sends)`: what a server was sent that went after frame 0 and came back for frame 1.

    `sends` is filled with the uplink's `send`, for whoever wants to use it in between.
    """

    async def run(sends):
        server = await scripted_server()
        uplink, sink, _ = connect_uplink(server.address)
        sends.append(uplink.send)
        await eventually(lambda: sink.capabilities)
        uplink.send(0)
        await eventually(lambda: sink.answers)
        await server.stop()
        await eventually(lambda: sink.downs)
        again = await scripted_server(port=server.port)
        await eventually(lambda: len(sink.capabilities) == 2)
        uplink.send(1)
        await eventually(lambda: len(sink.answers) == 2)
        return [request.id for request in again.requests]

    return run


async def test_a_server_that_goes_and_comes_back_is_found_again(come_back):
    assert await come_back([]) == ["1"]


async def test_a_frame_that_is_sent_while_it_finds_out_why_the_connection_was_lost_goes_nowhere(
    come_back, monkeypatch
):
    why_refused, sends = stream.why_refused, []

    async def find_out(*arguments, **options):
        sends[0](99)
        return await why_refused(*arguments, **options)

    monkeypatch.setattr(stream, "why_refused", find_out)
    # The sink was told of the loss after it, so it has ended that frame: it must not be asked for it again.
    assert await come_back(sends) == ["1"]


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
        raise stream.LostError("as told")

    monkeypatch.setattr(stream.Uplink, "_attempt", attempt)
    monkeypatch.setattr(
        Roster,
        "failed",
        lambda self, server, now_s, refusal, **_: failed.done() or failed.set_result(now_s),
    )
    connect_uplink(*(f"127.0.0.1:{port}" for port in range(1, servers + 1)))
    assert (await asyncio.wait_for(failed, 5) < ended[0] - 0.01) is from_its_begin
