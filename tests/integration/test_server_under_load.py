"""A thousand connections, bundles replaced under load, and no memory left: accepted frames are answered."""

import asyncio
import re
import resource
import shutil
import signal
import threading
import time
from pathlib import Path

import grpc
import numpy as np

from isthmus.runtime.wire import InferenceStub, channel_options, parse_stream_answer
from isthmus.runtime.wire.tls import ClientSecurity

PATIENCE_S = 60
CONNECTIONS = 1000


async def test_a_thousand_connections_at_once(server_process, tiny_bundle, returns_to, traffic):
    """Each has its own connection and stream, all are open together, and all frames are answered."""
    limits = ("--max-streams-per-client", CONNECTIONS, "--client-credit", 2 * CONNECTIONS)
    server = server_process(tiny_bundle, *limits)
    try:
        served = await traffic.warm_up(server)
        await _connect_all(server, traffic)  # such pools as a thousand need are filled now
        before = await asyncio.to_thread(traffic.settled, server)
        during = await _connect_all(server, traffic)
        assert during.files >= before.files + CONNECTIONS, "they were not open all together"
        await asyncio.to_thread(returns_to, server, before)
        stopped = await asyncio.to_thread(server.stop)
        assert stopped["complete"]
        assert stopped["outcomes"]["ok"] == served + 4 * CONNECTIONS
    finally:
        server.close()


async def _connect_all(server, traffic):
    """Open the connections, have two frames answered on each, and close them; return what the server held."""
    channels = [ClientSecurity().channel(server.address) for _ in range(CONNECTIONS)]
    calls = [InferenceStub(channel).ModelStreamInfer() for channel in channels]

    async def one(call, number):
        await call.write(traffic.frame(number))
        answer = parse_stream_answer(await call.read())
        assert (answer.frame_id, answer.outcome) == (str(number), "ok")

    await asyncio.gather(*(one(call, number) for number, call in enumerate(calls)))
    during = server.footprint()
    await asyncio.gather(*(one(call, CONNECTIONS + number) for number, call in enumerate(calls)))
    for call in calls:
        call.cancel()
    await asyncio.gather(*(channel.close() for channel in channels))
    return during


def test_a_bundle_reloaded_under_load(
    server_process, tiny_bundle, make_tiny_bundle, returns_to, traffic, tmp_path
):
    """Streams go on while the bundle is replaced again and again; no frame is lost and no memory kept."""
    mine = shutil.copytree(tiny_bundle, tmp_path / "mine")
    versions = [make_tiny_bundle(tmp_path / "newer", seed=9), tiny_bundle]
    server = server_process(mine)
    ended = threading.Event()
    answers = [[] for _ in range(3)]
    streams = [threading.Thread(target=_stream_until, args=(server, traffic, ended, one)) for one in answers]
    try:
        asyncio.run(traffic.warm_up(server))
        for stream in streams:
            stream.start()
        before = None
        for turn in range(6):
            _install(versions[turn % 2], mine)
            server.process.send_signal(signal.SIGHUP)
            _wait(lambda turn=turn: server.log().count("reloaded: tiny") > turn, "the reload")
            seen = len(answers[0]) + 100
            _wait(lambda seen=seen: len(answers[0]) > seen, "frames after it")
            if turn == 1:  # either has been loaded twice
                before = server.footprint()
        ended.set()
        for stream in streams:
            stream.join(PATIENCE_S)
        returns_to(server, before)
        stopped = server.stop()
    finally:
        ended.set()
        server.close()
    for got in answers:
        assert [answer.frame_id for answer in sorted(got, key=lambda one: int(one.frame_id))] == [
            str(number) for number in range(len(got))
        ]
        assert {answer.outcome for answer in got} == {"ok"}
    scores = np.concatenate([answer.outputs_nc for got in answers for answer in got])
    assert len(np.unique(scores.round(3), axis=0)) == 2, "both versions have answered, and nothing else"
    warm = stopped["outcomes"]["ok"] - sum(map(len, answers))
    assert stopped["complete"]
    assert 1000 <= warm <= 1050


def _stream_until(server, traffic, ended, answers):
    """Send frame after frame, each when the one before is answered, until `ended`."""

    def frames():
        number = 0
        while not ended.is_set():
            yield traffic.frame(number)
            number += 1

    with grpc.insecure_channel(server.address, options=channel_options()) as channel:
        for message in InferenceStub(channel).ModelStreamInfer(frames()):
            answers.append(parse_stream_answer(message))


def _install(source, target):
    for file in sorted(source.rglob("*"), key=lambda file: file.name == "manifest.json"):
        if file.is_file():
            shutil.copy(file, target / file.relative_to(source))


def _wait(condition, what):
    ends_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends_s, f"waited in vain for {what}"
        time.sleep(0.02)


async def test_a_process_without_memory(server_process, tiny_bundle, traffic):
    """It refuses, or it dies and is replaced; each call ends, and what is counted as served was answered."""
    server = server_process(tiny_bundle, "--processes", 2)
    try:
        served = await traffic.warm_up(server)
        victim, other = server.workers()
        cap = _address_space(victim) + (32 << 20)
        resource.prlimit(victim, resource.RLIMIT_AS, (cap, cap))
        ends = await asyncio.gather(*(_flood(server, traffic) for _ in range(24)))
        for answered, large in ends:
            served += answered
            assert large <= _REFUSALS, large
        has_died = victim not in server.workers()
        if has_died:
            died = f"(process {victim}) died"
            await asyncio.to_thread(_wait, lambda: died in server.log(), "word of its death")
            ready = "is ready (process"
            await asyncio.to_thread(_wait, lambda: ready in server.log().partition(died)[2], "another")
        assert other in server.workers(), "the other one was never in want"
        for _ in range(10):
            async with ClientSecurity().channel(server.address) as channel:
                assert await traffic.exchange(channel, frames=10) == 10
        served += 100
        stopped = await asyncio.to_thread(server.stop)
        # Of one that died, or was killed because it did not stop, nobody knows the count.
        assert stopped["outcomes"]["ok"] <= served
        assert has_died or not stopped["complete"] or stopped["outcomes"]["ok"] == served
    finally:
        server.close()


# Of what is much too large: UNAVAILABLE when its server dies over it, UNKNOWN when gRPC has no memory for it.
_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}


async def _flood(server, traffic):
    """Send frames and much too large requests over a connection of one's own.

    Returns how many frames were answered "ok", and the statuses of the others.
    """
    async with ClientSecurity().channel(server.address) as channel:
        stub = InferenceStub(channel)
        large = traffic.frame(0)
        large.raw_input_contents[0] = bytes(4_000_000)
        sent = [_status(stub.ModelInfer(large, timeout=PATIENCE_S)) for _ in range(4)]
        answered, *statuses = await asyncio.gather(_answered(stub, traffic, frames=50), *sent)
        return answered, set(statuses)


async def _status(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def _answered(stub, traffic, *, frames):
    """Return how many frames of a stream are answered before it ends, one way or the other."""
    call = stub.ModelStreamInfer(timeout=PATIENCE_S)
    answered = 0
    try:
        for number in range(frames):
            await call.write(traffic.frame(number))
            answered += parse_stream_answer(await call.read()).outcome == "ok"
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        assert await call.code() in _REFUSALS
    else:
        assert answered == frames
    call.cancel()
    return answered


def _address_space(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"(?m)^VmSize:\s+(\d+)", status).group(1)) << 10
