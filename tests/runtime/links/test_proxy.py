"""Over real loopback sockets; rates and times are chosen so that each test takes a fraction of a second."""

import asyncio
import socket
import time

import pytest

from isthmus.runtime.errors import NetworkError
from isthmus.runtime.events import EventLog, ShapeEvent, read_events
from isthmus.runtime.links import RateTrace, ShapingProxy


@pytest.mark.parametrize("rate", [50_000.0, 2_000_000.0])
async def test_throughput_is_the_traces(proxied, rate):
    nbytes = round(rate * 0.4)
    async with proxied(RateTrace([(1.0, rate)])) as (target, connect, _):
        _, writer = await connect()
        writer.write(b"x" * nbytes)
        await target.until(lambda: target.total == nbytes)
        first_s, _, first = target.arrivals[0]
        measured = (nbytes - len(first)) / (target.arrivals[-1][0] - first_s)
    assert measured == pytest.approx(rate, rel=0.07)


async def test_a_frame_takes_its_transmission_and_the_delay(proxied):
    # 300 bytes at 10 kB/s are 30 ms, the way there 20 ms, the way back 20 ms without a limit.
    async with proxied(RateTrace([(1.0, 10_000.0)]), delay_s=0.02, echo=True) as (_, connect, _):
        reader, writer = await connect()
        times = []
        for _ in range(4):
            sent_s = time.monotonic()
            writer.write(b"x" * 300)
            await reader.readexactly(300)
            times.append(time.monotonic() - sent_s)
    assert min(times) >= 0.069
    assert sorted(times)[1] < 0.085


async def test_a_zero_rate_stalls_but_keeps_the_connection(proxied):
    trace = RateTrace([(0.2, 100_000.0), (0.5, 0.0), (10.0, 100_000.0)])
    async with proxied(trace) as (target, connect, _):
        _, writer = await connect()
        writer.write(b"1" * 100)
        await target.until(lambda: target.total == 100)
        begun_s = target.arrivals[0][0]
        await asyncio.sleep(0.3)  # until the middle of the outage
        writer.write(b"2" * 100)
        await target.until(lambda: target.total == 200)
        stalled = [at_s - begun_s for at_s, _, _ in target.arrivals if 0.21 < at_s - begun_s < 0.68]
        assert stalled == []
        assert target.arrivals[-1][0] - begun_s == pytest.approx(0.7, abs=0.06)
        assert target.connections == 1


async def test_connections_share_one_bucket(proxied):
    rate = 100_000.0
    async with proxied(RateTrace([(1.0, rate)])) as (target, connect, proxy):
        for _ in range(2):
            _, writer = await connect()
            writer.write(b"x" * 20_000)
        await target.until(lambda: target.total == 40_000)
        begin_s, end_s = target.arrivals[0][0], target.arrivals[-1][0]
        half_s = (begin_s + end_s) / 2
        shares = [
            sum(len(data) for at_s, by, data in target.arrivals if by == connection and at_s < half_s)
            for connection in range(2)
        ]
        assert proxy.connections == 2
    assert end_s - begin_s == pytest.approx(0.4, rel=0.08)
    assert shares[0] == pytest.approx(shares[1], rel=0.3)


async def test_the_sender_feels_a_slow_link(proxied):
    async with proxied(RateTrace([(1.0, 1_000.0)])) as (target, connect, _):
        _, writer = await connect()
        kernel = writer.get_extra_info("socket")
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(b"x" * 300_000)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.3)
        assert writer.transport.get_write_buffer_size() > 200_000
        assert target.total < 1_000


async def test_bytes_arrive_unchanged_and_in_order_both_ways(proxied):
    data = bytes(range(256)) * 400
    async with proxied(RateTrace([(1.0, 1e6)]), downlink=RateTrace([(1.0, 1e6)]), echo=True) as (
        target,
        connect,
        proxy,
    ):
        reader, writer = await connect()
        writer.write(data)
        assert await asyncio.wait_for(reader.readexactly(len(data)), 5) == data
        assert b"".join(part for _, _, part in target.arrivals) == data
        assert proxy.delivered_bytes == (len(data), len(data))


async def test_an_end_travels_behind_the_bytes_and_the_other_way_stays_open(proxied):
    async with proxied(RateTrace([(1.0, 50_000.0)]), echo=True) as (target, connect, _):
        reader, writer = await connect()
        writer.write(b"x" * 5_000)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 5) == b"x" * 5_000
        await target.until(lambda: target.ended == 1)


async def test_a_target_that_is_down_looks_down():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = taken.getsockname()[1]
    proxy = ShapingProxy(None)
    port = await proxy.start("127.0.0.1", 0, "127.0.0.1", nobody)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
    finally:
        writer.transport.abort()
        await proxy.close()


async def test_a_client_that_vanishes_takes_its_way_to_the_target_along(proxied):
    async with proxied(RateTrace([(1.0, 1_000.0)])) as (target, connect, _):
        _, writer = await connect()
        writer.write(b"x" * 5_000)
        await target.until(lambda: target.total > 0)
        writer.transport.abort()
        _, second = await connect()
        second.write(b"y" * 10)
        await target.until(lambda: any(by == 1 for _, by, _ in target.arrivals), 3.0)
        assert target.total < 1_000


async def test_a_port_in_use_is_one_line_with_a_remedy():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError, match=rf"127\.0\.0\.1:{port}: .*in use.*another"):
            await ShapingProxy(None).start("127.0.0.1", port, "127.0.0.1", 1)


async def test_the_true_rate_is_logged_from_the_first_connection_on(proxied, tmp_path):
    log = EventLog(tmp_path / "link.jsonl")
    trace = RateTrace([(0.15, 50_000.0), (0.15, 0.0), (10.0, 20_000.0)])
    async with proxied(trace, events=log) as (target, connect, _):
        await asyncio.sleep(0.05)
        _, writer = await connect()
        begun_s = time.monotonic()
        for _ in range(2):
            writer.write(b"x" * 5_000)
            await asyncio.sleep(0.2)
        await target.until(lambda: target.total == 10_000)
    log.close()
    events = [event for event in read_events(tmp_path / "link.jsonl") if isinstance(event, ShapeEvent)]
    assert [event.rate_bytes_per_s for event in events] == pytest.approx([50_000, 0, 20_000])
    assert [event.at_s - begun_s for event in events] == pytest.approx([0, 0.15, 0.3], abs=0.03)


async def test_changes_that_crowd_are_averaged(proxied, tmp_path):
    log = EventLog(tmp_path / "link.jsonl")
    trace = RateTrace([(0.01, 10_000.0), (0.01, 30_000.0)])
    async with proxied(trace, events=log) as (target, connect, _):
        _, writer = await connect()
        writer.write(b"x" * 5_000)
        await target.until(lambda: target.total == 5_000)
    log.close()
    events = list(read_events(tmp_path / "link.jsonl"))
    assert 1 <= len(events) <= 4
    assert all(
        isinstance(event, ShapeEvent) and event.rate_bytes_per_s == pytest.approx(20_000) for event in events
    )


async def test_the_rate_of_a_running_link_can_be_set(proxied, tmp_path):
    log = EventLog(tmp_path / "link.jsonl")
    async with proxied(RateTrace([(1.0, 0.0)]), events=log) as (target, connect, proxy):
        assert proxy.rate_bytes_per_s == 0.0
        _, writer = await connect()
        writer.write(b"x" * 20_000)
        await asyncio.sleep(0.05)
        assert target.total == 0
        proxy.set_rate(100_000.0)
        assert proxy.rate_bytes_per_s == 100_000.0
        set_s = time.monotonic()
        await target.until(lambda: target.total == 20_000)
        assert target.arrivals[-1][0] - set_s == pytest.approx(0.2, abs=0.08)
        proxy.set_rate(None)
        assert proxy.set_rate_bytes_per_s is None
        assert proxy.rate_bytes_per_s == 0.0
        await asyncio.sleep(0.01)  # its log is written by a task
    log.close()
    assert [event.rate_bytes_per_s for event in read_events(tmp_path / "link.jsonl")] == [0.0, 1e5, 0.0]


async def test_a_rate_set_before_the_first_connection_holds(proxied):
    async with proxied(RateTrace([(1.0, 0.0)])) as (target, connect, proxy):
        proxy.set_rate(100_000.0)
        _, writer = await connect()
        writer.write(b"x" * 1000)
        await target.until(lambda: target.total == 1000)
