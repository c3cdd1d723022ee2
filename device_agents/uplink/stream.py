"""The way to a server: one connection at a time, made again for as long as the agent lives.

Decides when to connect and to which of several servers, which form a server understands (by its metadata,
never by guess), when a connection is lost and which errors are worth another attempt. Knows no image, latent
or policy: it asks its sink for each message at the last moment, so that a frame whose time has passed is
never sent.

Frames and answers go by `exchange` while a connection lasts.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import NoReturn

import grpc
import grpc.aio

from isthmus.device_agents.crew import Crew
from isthmus.device_agents.uplink.exchange import Exchange, LostError
from isthmus.device_agents.uplink.lookout import overtaken, ready_again
from isthmus.device_agents.uplink.peer import (
    ask_capability,
    error_text,
    is_ready,
)
from isthmus.device_agents.uplink.roster import Roster, Server
from isthmus.device_agents.uplink.sink import UplinkSink
from isthmus.device_agents.uplink.trust import Denial, pushback_s, why_refused
from isthmus.runtime.errors import AccessError, IsthmusError
from isthmus.runtime.wire import (
    Answer,
    InferenceStub,
    channel_options,
)
from isthmus.runtime.wire.tls import DEFAULT_SECURITY, ClientSecurity

# A server that says "busy" to every frame for so long is left for another, if there is one.
_BUSY_LONG_S = 2.0
# A short attempt finds a link soon after its return: what got lost is sent again only after seconds. A link
# with seconds of delay needs a long one, and gets it this often.
_LONG_ATTEMPT_EVERY = 4
_LONG_FACTOR = 2.5
_HANDSHAKE_S = 2.0


class Uplink:
    """Connects, sends, hands on answers, connects again.

    Args:
        roster: The servers.
        model: Name of the model on them.
        sink: Who is asked and told.
        security: How servers are spoken to.
        connect_timeout_s: Seconds that each question may take while connecting.
        answer_timeout_s: A server that leaves a frame unanswered for so long hangs and is given up; a healthy
            one says "expired" long before.
        failback_s: Seconds for which a preferred server must have been ready before it is returned to.
        stuck_s: Seconds without an answer after which the connection is replaced if a new one gets through.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        model: str,
        sink: UplinkSink,
        security: ClientSecurity = DEFAULT_SECURITY,
        connect_timeout_s: float = 5.0,
        answer_timeout_s: float = 30.0,
        failback_s: float = 10.0,
        stuck_s: float = 2.0,
    ) -> None:
        self._roster = roster
        self._model = model
        self._sink = sink
        self._security = security
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._failback_s = failback_s
        self._stuck_s = stuck_s
        self._exchange: Exchange | None = None
        self._crew: Crew | None = None
        self._server: Server | None = None
        self._busy_since_s: float | None = None
        self._proven = self._through = False
        self._denial = Denial()

    def send(self, frame: int) -> None:
        """Send `frame` once the connection takes it, if it lasts; `sink.message` is asked at that moment."""
        if self._exchange is not None:
            self._exchange.send(frame)

    def check(self, now_s: float) -> None:
        """Give the connection up if a frame has waited too long for its answer."""
        oldest = None if self._exchange is None else self._exchange.oldest()
        if self._crew is not None and oldest is not None and now_s - oldest[1] > self._answer_timeout_s:
            self._crew.fail(LostError(f"a frame had no answer for {self._answer_timeout_s:g} s"))

    async def run(self) -> NoReturn:
        """Stay connected until cancelled.

        Raises:
            NetworkError: If the server lacks the model or does not speak the protocol.
            PeerError: If it refuses what we send, or answers with what cannot be an answer. Both only until
                it has answered a frame; later they are taken for a server that is being changed, and tried
                again.
            AccessError: If TLS or authentication fails; after the first answer: for half a minute.
        """
        while True:
            server, wait_s = self._roster.choose(time.monotonic())
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            refused, retry_after_s = None, 0.0
            self._through, began_s = False, time.monotonic()
            try:
                await self._attempt(server)
            except LostError as error:
                reason = str(error)
            except (IsthmusError, grpc.aio.AioRpcError) as error:
                refused = await why_refused(
                    error, server=server.address, model=self._model, security=self._security
                )
                retry_after_s = pushback_s(error)
                reason = str(refused) if isinstance(refused, AccessError) else error_text(error)
            # A lone server whom an attempt did not reach for seconds needs no pause on top of them: on a link
            # that is back in the middle of it, every second counts.
            lone = len(self._roster) == 1 and not self._through
            now_s = time.monotonic()
            self._roster.failed(server, began_s if lone else now_s, refused, retry_after_s=retry_after_s)
            hopeless = self._roster.unanimous()
            denied_long = self._denial.lasts(hopeless, now_s)
            if hopeless is not None and (denied_long or not self._proven):
                raise hopeless
            self._sink.on_down(server.address, reason)

    async def _attempt(self, server: Server) -> NoReturn:
        """Connect and serve until that ends; raises why."""
        long = server.backoff.attempts % _LONG_ATTEMPT_EVERY == _LONG_ATTEMPT_EVERY - 1
        factor = _LONG_FACTOR if long else 1.0
        options = channel_options(handshake_s=_HANDSHAKE_S * factor, gentle=server.gentle)
        async with self._security.channel(server.address, options) as channel:
            stub = InferenceStub(channel, self._security.metadata(server.address))
            capability = await ask_capability(stub, self._model, timeout_s=self._connect_timeout_s * factor)
            self._through = True
            server.gentle = not capability.payload  # from the next connection on
            # A server that is starting or draining may describe itself all the same.
            if len(self._roster) > 1 and not await self._is_ready(stub):
                raise LostError("the server is not ready")
            if server.single_calls:
                capability = replace(capability, stream=False, lean=False)
            # The sink sent on the connection before until it heard of its loss.
            self._exchange = exchange = Exchange(
                channel,
                stub,
                server=server,
                sink=self._sink,
                on_answer=self._on_answer,
                answer_timeout_s=self._answer_timeout_s,
            )
            self._sink.on_connected(server.address, capability)
            self._crew = crew = Crew()
            self._server, self._busy_since_s = server, None
            try:
                crew.start(exchange.by_stream(crew) if capability.stream else exchange.by_calls(crew))
                crew.start(self._leave_stuck(crew, server, exchange))
                for preferred in self._roster.preferred_to(server):
                    crew.start(self._leave_for(crew, preferred))
                await crew.failure
            finally:
                self._crew = self._server = None
                await crew.dismiss()
        raise AssertionError("a broken connection has a reason")

    async def _is_ready(self, stub: InferenceStub) -> bool:
        return await is_ready(stub, self._model, timeout_s=self._connect_timeout_s)

    async def _leave_for(self, crew: Crew, preferred: Server) -> None:
        """End the connection when a server that is preferred has been ready for long enough."""
        await ready_again(
            preferred,
            self._roster,
            self._model,
            self._security,
            timeout_s=self._connect_timeout_s,
            lasting_s=self._failback_s,
        )
        crew.fail(LostError(f"{preferred.address}, which is preferred, is ready again"))

    async def _leave_stuck(self, crew: Crew, server: Server, exchange: Exchange) -> None:
        """End the connection when answers do not come on it while a new one gets through."""
        await overtaken(server.address, self._security, exchange.oldest, stuck_s=self._stuck_s)
        crew.fail(LostError(f"no answer for {self._stuck_s:g} s, while a new connection gets through"))

    def _on_busy(self, now_s: float) -> None:
        """Leave a server that is busy for long, or that drains, if there is another."""
        crew, exchange = self._crew, self._exchange
        if crew is None or exchange is None or len(self._roster) == 1:
            return
        if self._busy_since_s is None:
            self._busy_since_s = now_s
            crew.start(self._check_ready(crew, exchange.stub))
        elif now_s - self._busy_since_s >= _BUSY_LONG_S:
            crew.fail(LostError(f"busy for {now_s - self._busy_since_s:.1f} s"))

    async def _check_ready(self, crew: Crew, stub: InferenceStub) -> None:
        if not await self._is_ready(stub):
            crew.fail(LostError("the server is draining"))

    def _on_answer(self, frame: int, answer: Answer, now_s: float) -> None:
        if answer.outcome == "busy":
            self._on_busy(now_s)
        else:
            self._busy_since_s = None
        if answer.outcome == "ok":
            self._proven = True
            if self._server is not None:
                self._roster.answered(self._server)
        self._sink.on_answer(frame, answer, now_s)
