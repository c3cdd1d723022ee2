"""What a connection cannot know of itself: that a better server is ready again, or that the link is back.

Each coroutine returns when what it waits for has come true. Decides nothing about the connection in use.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc
import grpc.aio

from isthmus.device_agents.uplink.peer import is_live, is_ready
from isthmus.device_agents.uplink.roster import Roster, Server
from isthmus.runtime.wire import InferenceStub, channel_options
from isthmus.runtime.wire.tls import ClientSecurity

# A preferred server that has failed is asked this often whether it is ready again.
_LOOK_EVERY_S = 1.0
_KNOCK_EVERY_S = 0.5
_KNOCK_TIMEOUT_S = 2.0
# A link that serves in order delivers what waits before it delivers a knock, give or take this.
_OVERTAKEN_S = 0.3


async def ready_again(
    server: Server,
    roster: Roster,
    model: str,
    security: ClientSecurity,
    *,
    timeout_s: float,
    lasting_s: float,
) -> None:
    """Wait until `server` has been ready for `model` for `lasting_s` seconds on end."""
    async with security.channel(server.address, channel_options(gentle=server.gentle)) as channel:
        stub = InferenceStub(channel, security.metadata(server.address))
        since_s: float | None = None
        while True:
            asked_s = time.monotonic()
            if channel.get_state() is not grpc.ChannelConnectivity.READY:
                since_s = None  # it was away since the last look
            if not await is_ready(stub, model, timeout_s=timeout_s):
                since_s = None
                # So that, should the connection in use be lost too, it is not the first to be tried.
                roster.failed(server, time.monotonic())
                await asyncio.sleep(server.not_before_s - time.monotonic())
                continue
            since_s = asked_s if since_s is None else since_s
            rest_s = since_s + lasting_s - time.monotonic()
            if rest_s <= 0:
                roster.welcome(server)
                return
            await asyncio.sleep(min(_LOOK_EVERY_S, rest_s))


async def overtaken(
    address: str,
    security: ClientSecurity,
    oldest: Callable[[], tuple[int, float] | None],
    *,
    stuck_s: float,
) -> None:
    """Wait until a new connection to `address` carries messages while the old one does not.

    After an outage TCP sends what was lost again only when as much time has passed as the outage took (the
    retransmission timer doubles, RFC 6298); a new connection is through at once.

    Args:
        address: HOST:PORT of the server.
        security: How it is spoken to.
        oldest: Returns the frame that has waited longest for its answer, and when it was sent.
        stuck_s: Seconds without its answer from which on new connections are tried.
    """
    while True:
        await asyncio.sleep(_KNOCK_EVERY_S)
        before = oldest()
        if before is None or time.monotonic() - before[1] < stuck_s:
            continue
        async with security.channel(address) as channel:
            live = await is_live(
                InferenceStub(channel, security.metadata(address)), timeout_s=_KNOCK_TIMEOUT_S
            )
        if live:
            await asyncio.sleep(_OVERTAKEN_S)
            if oldest() == before:
                return
