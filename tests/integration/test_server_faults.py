"""What clients do to a server: die, do not read, trickle, fall silent.

Others are served meanwhile, every accepted frame is answered, and afterwards the server holds no more memory,
files and threads than before. Certificates and tokens: `test_security.py`; stopped processes:
`test_hung_peer.py`; killed servers: `test_server_killed.py` and `test_serve_processes.py`; too much at once:
`test_server_under_load.py`.
"""

import asyncio
import contextlib
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import pytest

from isthmus.runtime.wire import (
    SERVICE_NAME,
    InferenceStub,
    channel_options,
    oip,
    parse_answer,
    parse_stream_answer,
)
from isthmus.runtime.wire.tls import ClientSecurity

PATIENCE_S = 60
# Within which a silent peer is given up, and what a loaded machine may take besides.
NOTICED_S = 6.0 + 6.0
ROWS = 32


@pytest.fixture(scope="module")
def server(server_process, tiny_bundle, traffic):
    """A server that has computed batches and had streams before anything is measured."""
    pytest.importorskip("prometheus_client")
    started = server_process(tiny_bundle, "--metrics-port", 0)
    asyncio.run(traffic.warm_up(started))
    yield started
    started.close()


@pytest.fixture
def before(server, traffic):
    return traffic.settled(server)


def _counted(server):
    """Return how many frames the server has counted, by outcome."""
    url = f"http://127.0.0.1:{server.ready['metrics_port']}/metrics"
    page = urllib.request.urlopen(url, timeout=PATIENCE_S).read().decode()
    found = re.findall(r'^isthmus_frames_total\{model="tiny",outcome="(\w+)"\} ([\d.e+]+)$', page, re.M)
    return {outcome: int(float(count)) for outcome, count in found}


_STREAMER = """
import sys
import grpc
import numpy as np
from isthmus.runtime.wire import InferenceStub, channel_options, latent_request

def frames():
    latent = np.full((1, 4, 4, 4), 100, np.uint8)
    for number in range(10**9):
        sys.stdout.write("s")
        sys.stdout.flush()
        yield latent_request(model="tiny", frame_id=str(number), latent_nchw=latent, budget_us=None)

with grpc.insecure_channel(sys.argv[1], options=channel_options()) as channel:
    for answer in InferenceStub(channel).ModelStreamInfer(frames()):
        sys.stdout.write("a")
        sys.stdout.flush()
"""


def test_clients_killed_in_mid_stream(server, before, returns_to, traffic):
    counted = _counted(server)
    clients = [
        subprocess.Popen([sys.executable, "-c", _STREAMER, server.address], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    sent = answered = 0
    for client in clients:
        with client:
            said = b""
            while said.count(b"a") < 200:
                said += (chunk := client.stdout.read1())
                assert chunk, "the client ended by itself"
            client.kill()
            said += client.stdout.read()
        sent, answered = sent + said.count(b"s"), answered + said.count(b"a")
    returns_to(server, before)
    ended = {outcome: count - counted.get(outcome, 0) for outcome, count in _counted(server).items()}
    # What reached a client had been counted, and what was counted had been sent. Clients that never wait
    # may fill the queue of a server that gets little of the processor.
    assert set(ended) <= {"ok", "busy", "failed"}
    assert 600 <= answered <= ended["ok"] + ended.get("busy", 0) <= sum(ended.values()) <= sent


async def test_clients_that_do_not_read_their_answers(server, before, returns_to, traffic):
    await _read_late(server, before, traffic)
    await asyncio.to_thread(returns_to, server, before)


async def _read_late(server, before, traffic):
    async with contextlib.AsyncExitStack() as stack:
        # With a small window they are stuck soon; by itself gRPC takes some megabytes before anybody reads.
        options = (*channel_options(), ("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0))
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(server.address, options=options))
            for _ in range(4)
        ]
        calls = [InferenceStub(channel).ModelStreamInfer() for channel in channels]
        stuck = await asyncio.gather(*(_write_until_stuck(call, traffic) for call in calls))
        # A window of 1 MiB each, twice for what Python makes of it, and pools.
        assert server.footprint().resident_bytes - before.resident_bytes <= (4 * 2 + 8) << 20
        async with ClientSecurity().channel(server.address) as other:
            assert await traffic.exchange(other, frames=100) == 100
        # Now they read: everything that was sent is answered.
        for call, (written, pending) in zip(calls, stuck, strict=True):
            reading = asyncio.create_task(_read_all(call))
            await asyncio.wait_for(pending, PATIENCE_S)
            await call.done_writing()
            answers = await asyncio.wait_for(reading, PATIENCE_S)
            assert sorted(answers) == list(range(written + 1))


async def _write_until_stuck(call, traffic):
    """Return how many frames went out until one did not for a second, and that one's task."""
    for number in range(200_000):
        writing = asyncio.create_task(call.write(traffic.frame(number, rows=ROWS)))
        done, _ = await asyncio.wait({writing}, timeout=1.0)
        if not done:
            return number, writing
    raise AssertionError("a client that reads nothing may write for ever")


async def _read_all(call):
    answers = [parse_stream_answer(message) async for message in call]
    # At once so many latents may be more than the queue takes, which is an answer too.
    assert {answer.outcome for answer in answers} <= {"ok", "busy"}
    return [int(answer.frame_id) for answer in answers]


# A client by hand, because every library finishes what it has begun.

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_ACKNOWLEDGED = _END_STREAM = 1
_END_HEADERS = 4
_HEADER = struct.Struct(">BHBBI")


class _Call:
    """A call of which nothing but the headers was sent; it answers pings, unless it is `mute`."""

    def __init__(self, address, *, mute):
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lock = threading.Lock()
        self._data, self._ended = b"", threading.Event()
        self._socket.sendall(_PREFACE)
        self._send(_SETTINGS, 0, 0, b"")
        self._send(_SETTINGS, _ACKNOWLEDGED, 0, b"")
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": f"/{SERVICE_NAME}/ModelInfer",
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        # HPACK's plainest form: a literal that no table keeps.
        block = b"".join(
            b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
            for name, value in fields.items()
        )
        self._send(_HEADERS, _END_HEADERS, 1, block)
        self._reader = threading.Thread(target=self._read, daemon=True)
        if not mute:
            self._reader.start()

    def send(self, data, *, last=False):
        self._send(_DATA, _END_STREAM if last else 0, 1, data)

    def answer(self):
        assert self._ended.wait(PATIENCE_S), "no answer"
        return parse_answer(oip.ModelInferResponse.FromString(self._data[5:]))

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reader.is_alive():
            self._reader.join(PATIENCE_S)
        self._socket.close()

    def _send(self, kind, flags, stream, body):
        with self._lock:
            size = len(body)
            self._socket.sendall(_HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + body)

    def _read(self):
        with contextlib.suppress(OSError), self._socket.makefile("rb") as stream:
            while header := stream.read(_HEADER.size):
                high, low, kind, flags, number = _HEADER.unpack(header)
                body = stream.read(high << 16 | low)
                if kind == _PING and not flags & _ACKNOWLEDGED:
                    self._send(_PING, _ACKNOWLEDGED, 0, body)
                if kind == _DATA:
                    self._data += body
                if number and flags & _END_STREAM:
                    self._ended.set()


def _prefix(length):
    return b"\0" + length.to_bytes(4, "big")


async def test_clients_that_send_half_a_message_or_trickle(server, before, returns_to, traffic):
    """One that stalls and falls silent is given up; one that is merely slow is answered."""
    with contextlib.ExitStack() as stack:
        stalled = [
            stack.enter_context(contextlib.closing(_Call(server.address, mute=True))) for _ in range(20)
        ]
        for call in stalled:
            call.send(_prefix(4_000_000) + bytes(8_000))
            for _ in range(3):
                call.send(bytes(8_000))
        slow = stack.enter_context(contextlib.closing(_Call(server.address, mute=False)))
        message = traffic.frame("slow").SerializeToString()
        trickled = _prefix(len(message)) + message
        async with ClientSecurity().channel(server.address) as other:
            for index in range(len(trickled)):
                slow.send(trickled[index : index + 1], last=index == len(trickled) - 1)
                if index % 10 == 0:
                    assert await traffic.exchange(other, frames=10) == 10
                await asyncio.sleep(0.02)
            assert server.footprint().resident_bytes - before.resident_bytes <= 24 << 20
        answer = await asyncio.to_thread(slow.answer)
        assert (answer.frame_id, answer.outcome) == ("slow", "ok")
        slow.close()
        # Those that stalled keep their ends open: it is the server that lets go.
        await asyncio.to_thread(returns_to, server, before)


async def test_a_connection_that_is_open_at_one_end_only(
    server, before, returns_to, traffic, from_benchmarks
):
    """A router forgets the connection: neither end hears of it, and both must find out."""
    relay = from_benchmarks("_faults.relay").Relay(int(server.address.rpartition(":")[2]))
    try:
        counted = _counted(server)
        async with ClientSecurity().channel(f"127.0.0.1:{relay.port}") as channel:
            call = InferenceStub(channel).ModelStreamInfer()
            for number in range(10):
                await call.write(traffic.frame(number))
                assert parse_stream_answer(await call.read()).outcome == "ok"
            relay.lose()
            lost_s = time.monotonic()
            await call.write(traffic.frame("lost"))
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(call.read(), PATIENCE_S)
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() - lost_s <= NOTICED_S
            # The relay's ends stay open, and still the server has let go of its own.
            await asyncio.to_thread(returns_to, server, before)
            assert time.monotonic() - lost_s <= 2 * NOTICED_S
            relay.back()
            again = InferenceStub(channel).ModelInfer(
                traffic.frame("back"), timeout=PATIENCE_S, wait_for_ready=True
            )
            assert parse_answer(await again).outcome == "ok"
        assert _counted(server)["ok"] - counted["ok"] == 11
    finally:
        relay.close()
