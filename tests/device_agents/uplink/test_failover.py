"""Several servers: who is turned to, when, and how the preferred one is found again."""

import asyncio

import pytest

from isthmus.runtime.errors import NetworkError
from isthmus.runtime.events import LinkEvent, read_events


@pytest.fixture
async def follow(connect_uplink):
    """Return `follow(*addresses, **options) -> (uplink, sink)`, an uplink that sends a frame every 10 ms."""
    tasks = []

    async def feed(uplink, sink):
        frame = 0
        while True:
            if sink.addresses:
                uplink.send(frame)
                frame += 1
            await asyncio.sleep(0.01)

    def start(*addresses, **options):
        uplink, sink, task = connect_uplink(*addresses, **options)
        tasks.append(asyncio.ensure_future(feed(uplink, sink)))
        return uplink, sink, task

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_next_server_takes_over_and_the_preferred_is_returned_to(
    scripted_server, follow, eventually
):
    first, second = await scripted_server(), await scripted_server()
    _, sink, _ = follow(first.address, second.address, failback_s=0.3)
    await eventually(lambda: len(first.requests) > 5)
    assert second.requests == []
    await first.stop()
    await eventually(lambda: len(second.requests) > 5)
    assert sink.addresses == [first.address, second.address]
    again = await scripted_server(port=first.port)
    returned_s = asyncio.get_running_loop().time()
    await eventually(lambda: len(again.requests) > 5)
    # Not before it has been ready for as long as was asked for.
    assert asyncio.get_running_loop().time() - returned_s >= 0.3
    assert sink.addresses == [first.address, second.address, first.address]
    assert sink.downs[-1] == f"{first.address}, which is preferred, is ready again"


async def test_a_preferred_server_that_comes_and_goes_is_not_returned_to(scripted_server, follow, eventually):
    first, second = await scripted_server(), await scripted_server()
    _, sink, _ = follow(first.address, second.address, failback_s=0.5)
    await eventually(lambda: first.requests)
    await first.stop()
    await eventually(lambda: len(sink.addresses) == 2)
    for _ in range(3):
        flapping = await scripted_server(port=first.port)
        await eventually(lambda flapping=flapping: flapping.asked_ready)
        await asyncio.sleep(0.1)
        await flapping.stop()
        await asyncio.sleep(0.2)
    assert sink.addresses == [first.address, second.address]


async def test_a_server_that_is_not_ready_is_passed_over(scripted_server, follow, eventually):
    first, second = await scripted_server(ready=False), await scripted_server()
    _, sink, _ = follow(first.address, second.address, failback_s=0.1)
    await eventually(lambda: len(second.requests) > 3)
    assert sink.downs == ["the server is not ready"]
    first.ready = True
    await eventually(lambda: first.requests)


async def test_a_draining_server_is_left_at_its_first_busy(scripted_server, follow, eventually, replies):
    first, second = await scripted_server(), await scripted_server()
    _, sink, _ = follow(first.address, second.address, failback_s=60.0)
    await eventually(lambda: first.requests)
    first.ready, first.reply = False, replies["busy"]
    await eventually(lambda: second.requests)
    assert sink.downs == ["the server is draining"]


async def test_a_server_that_is_busy_for_long_is_left_and_one_that_is_so_for_a_moment_is_not(
    scripted_server, follow, eventually, replies, monkeypatch
):
    monkeypatch.setattr("isthmus.device_agents.uplink.stream._BUSY_LONG_S", 0.3)
    first, second = await scripted_server(), await scripted_server()
    _, sink, _ = follow(first.address, second.address, failback_s=60.0)
    await eventually(lambda: first.requests)
    for _ in range(3):
        first.reply = replies["busy"]
        await asyncio.sleep(0.15)
        first.reply = replies["right"]
        await asyncio.sleep(0.1)
    assert sink.addresses == [first.address]
    first.reply = replies["busy"]
    await eventually(lambda: second.requests)
    assert sink.downs[0].startswith("busy for 0.")


async def test_the_only_server_is_kept_however_busy_it_is(scripted_server, follow, replies, monkeypatch):
    monkeypatch.setattr("isthmus.device_agents.uplink.stream._BUSY_LONG_S", 0.1)
    server = await scripted_server(reply=replies["busy"])
    _, sink, _ = follow(server.address)
    await asyncio.sleep(0.5)
    assert sink.addresses == [server.address]
    assert sink.downs == []


async def test_one_server_that_refuses_is_no_error_while_another_may_not(scripted_server, follow, eventually):
    first, second = await scripted_server(models={}), await scripted_server()
    _, sink, task = follow(first.address, second.address)
    await eventually(lambda: second.requests)
    assert sink.downs[0].startswith("NOT_FOUND")
    assert not task.done()


async def test_servers_that_all_refuse_are_an_error(scripted_server, follow):
    first, second = await scripted_server(models={}), await scripted_server(models={})
    _, _, task = follow(first.address, second.address)
    with pytest.raises(NetworkError, match=f"server {first.address} has no model 'tiny'"):
        await asyncio.wait_for(task, 5)


async def test_frames_in_flight_at_a_failover_are_answered_by_the_device(
    launch, account, scripted_server, exit_only, eventually, watcher
):
    first, second = await scripted_server(), await scripted_server()
    agent, task, path = launch(exit_only, first.address, servers=(first.address, second.address))
    await eventually(lambda: len(first.requests) > 10)
    await first.stop()
    await eventually(lambda: len(second.requests) > 20)
    await asyncio.sleep(1.1)
    agent.stop()
    await asyncio.wait_for(task, 5)
    run, frames, _, end = account(path)
    assert run.server == f"{first.address},{second.address}"
    assert end.outcomes["remote"] > 25
    assert end.outcomes["dropped"] == sum("superseded" in event.reason for event in frames)
    servers = [event.server for event in read_events(path) if isinstance(event, LinkEvent)]
    assert servers[-1] == second.address
    assert any(f"no connection to {first.address}" in note for note in watcher.notes)
    assert any(f"at {second.address}" in note for note in watcher.notes)
