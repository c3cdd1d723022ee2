"""How an error becomes a gRPC status: one table, and when a busy server may be asked again."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc

from isthmus.runtime.errors import (
    AccessError,
    ArtifactError,
    BackendError,
    BusyError,
    DrainingError,
    IsthmusError,
    PeerError,
    UnauthenticatedError,
    UnknownModelError,
)

# gRPC sends it percent-encoded in its trailers, and a client that finds more than 8 KB there may end the
# call with a status of its own. Messages quote what a peer has named, and that may be anything.
_LONGEST_MESSAGE = 500

# gRPC's own name (gRFC A6): milliseconds to wait before another attempt.
PUSHBACK: Final = "grpc-retry-pushback-ms"

STATUS: dict[type[IsthmusError], grpc.StatusCode] = {
    PeerError: grpc.StatusCode.INVALID_ARGUMENT,  # WireError and PayloadError
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    ArtifactError: grpc.StatusCode.FAILED_PRECONDITION,  # a bundle that was to be loaded
    BusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DrainingError: grpc.StatusCode.UNAVAILABLE,
    BackendError: grpc.StatusCode.INTERNAL,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    AccessError: grpc.StatusCode.PERMISSION_DENIED,
}


def status_of(error: IsthmusError) -> grpc.StatusCode:
    """Return the status of `error`: that of its nearest class in `STATUS`."""
    return next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), grpc.StatusCode.INTERNAL)


def pushback(error: IsthmusError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of a refusal: of a busy server, when it may be asked again."""
    if not isinstance(error, BusyError):
        return ()
    return ((PUSHBACK, str(round(error.retry_after_s * 1e3))),)


def message_of(error: IsthmusError) -> str:
    """Return what a client is told of `error`: its message, cut short if it is long."""
    message = str(error)
    return message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"


async def refuse(context: Any, error: IsthmusError) -> NoReturn:
    """End the call of a `grpc.aio` servicer's context with the status and message of `error`."""
    await context.abort(status_of(error), message_of(error), pushback(error))
    raise AssertionError("abort raises")
