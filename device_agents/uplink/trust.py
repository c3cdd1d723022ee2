"""What the errors of a connection mean for the next attempt: none will help, or not before some time."""

from __future__ import annotations

import math

import grpc.aio

from isthmus.device_agents.uplink.peer import refusal
from isthmus.runtime.errors import AccessError, IsthmusError
from isthmus.runtime.wire.diagnosis import why_no_connection
from isthmus.runtime.wire.tls import ClientSecurity

_PUSHBACK = "grpc-retry-pushback-ms"
# A server that wants to be left alone for longer, or for ever, is asked again after this all the same.
_LONGEST_PUSHBACK_S = 60.0


class Denial:
    """How long every server has refused to trust this agent, or was not trusted by it.

    In the middle of a run it may be about to be mended: certificates are renewed, lists are edited.
    """

    def __init__(self, longest_s: float = 30.0) -> None:
        """Give up after `longest_s`."""
        self._longest_s = longest_s
        self._since_s: float | None = None

    def lasts(self, refusal: Exception | None, now_s: float) -> bool:
        """Say whether, with the last attempts' common `refusal`, it has lasted too long."""
        if not isinstance(refusal, AccessError):
            self._since_s = None
            return False
        self._since_s = now_s if self._since_s is None else self._since_s
        return now_s - self._since_s >= self._longest_s


async def why_refused(
    error: IsthmusError | grpc.aio.AioRpcError, *, server: str, model: str, security: ClientSecurity
) -> IsthmusError | None:
    """Return the deliberate error that `error` amounts to; None if another attempt may cure it.

    Args:
        error: What an attempt to reach a server ended with.
        server: HOST:PORT.
        model: The model asked for.
        security: How it was spoken to; if the two ends do not trust each other, the port is asked why.
    """
    refused = refusal(error, server=server, model=model)
    if refused is None and isinstance(error, grpc.aio.AioRpcError):
        return await why_no_connection(error, server, security)
    return refused


def pushback_s(error: BaseException | None) -> float:
    """Return the seconds for which a server that refused a call wants to be left alone (gRFC A6), or 0."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return 0.0
    for key, value in error.trailing_metadata() or ():
        if key == _PUSHBACK:
            try:
                seconds = int(value) / 1e3
            except ValueError:
                seconds = math.inf  # as the convention has it: do not retry
            return min(seconds, _LONGEST_PUSHBACK_S) if seconds >= 0 else _LONGEST_PUSHBACK_S
    return 0.0
