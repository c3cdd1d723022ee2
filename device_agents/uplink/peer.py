"""What a server is: the questions asked while connecting, and which of its errors another attempt may cure.

Decides by what the server states of itself, never by guess. Knows no frame and no connection's life.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from isthmus.runtime.bundle import Manifest
from isthmus.runtime.errors import AccessError, IsthmusError, NetworkError, PeerError, WireError
from isthmus.runtime.wire import (
    BUNDLE,
    EXTENSION_CONFIG,
    EXTENSION_LEAN,
    EXTENSION_PAYLOAD,
    EXTENSION_STREAM,
    LATENT,
    InferenceStub,
)
from isthmus.runtime.wire import oip_pb2 as oip

# The server understood us and says no: the same request would be refused again. Everything else (UNAVAILABLE,
# RESOURCE_EXHAUSTED, a broken transport's INTERNAL or UNKNOWN, ...) may pass.
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)
# The name that Triton states of itself.
_TRITON = "triton"
_BUSY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What the connected server understands.

    Attributes:
        server: Its name and version, as it states them.
        stream: The bidirectional stream; otherwise one call per frame.
        payload: Encoded latents; otherwise plain ones.
        metadata: What it says of the model.
        lean: Frames that say nothing twice, on a stream.
        config: Triton's description of how a model is served.
    """

    server: str
    stream: bool
    payload: bool
    metadata: oip.ModelMetadataResponse
    lean: bool = False
    config: bool = False


async def ask_capability(stub: InferenceStub, model: str, *, timeout_s: float) -> Capability:
    """Return what the server behind `stub` understands; each of two questions may take `timeout_s`.

    Raises:
        grpc.aio.AioRpcError: If it cannot be reached or lacks the model.
        WireError: If what it answers is no message of the protocol.
    """
    name, extensions, streams = "a server", frozenset[str](), False
    try:
        server = _message(await stub.ServerMetadata(oip.ServerMetadataRequest(), timeout=timeout_s))
        name, extensions = f"{server.name} {server.version}".strip(), frozenset(server.extensions)
        # Triton's own extension is the one that it does not list.
        streams = EXTENSION_STREAM in extensions or server.name == _TRITON
    except grpc.aio.AioRpcError as error:
        # A server of the protocol need not describe itself; then only the portable form is sure.
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
    metadata = _message(await stub.ModelMetadata(oip.ModelMetadataRequest(name=model), timeout=timeout_s))
    return Capability(
        server=name,
        stream=streams,
        payload=EXTENSION_PAYLOAD in extensions,
        metadata=metadata,
        lean=streams and {EXTENSION_LEAN, EXTENSION_PAYLOAD} <= extensions,
        config=EXTENSION_CONFIG in extensions,
    )


async def ask_bundle(
    stub: InferenceStub, model: str, capability: Capability, *, timeout_s: float
) -> str | None:
    """Return the digest of the bundle that the server's model was made from; None if it does not say.

    Our server and our MLServer runtime say it in the model's metadata, Triton in its configuration.

    Raises:
        grpc.aio.AioRpcError: If the server cannot be asked.
    """
    said = capability.metadata.parameters
    if BUNDLE in said:
        return str(said[BUNDLE].string_param) or None
    if not capability.config:
        return None
    try:
        answer = _message(await stub.ModelConfig(oip.ModelConfigRequest(name=model), timeout=timeout_s))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise
    configured = answer.config.parameters
    return str(configured[BUNDLE].string_value) or None if BUNDLE in configured else None


async def is_ready(stub: InferenceStub, model: str, *, timeout_s: float) -> bool:
    """Say whether the server behind `stub` takes frames of `model` now.

    A server that cannot be reached, or has no such model, is not ready; one that does not know the question
    is believed to be.
    """
    try:
        answer = await stub.ModelReady(oip.ModelReadyRequest(name=model), timeout=timeout_s)
        return answer is not None and bool(answer.ready)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNIMPLEMENTED


async def is_live(stub: InferenceStub, *, timeout_s: float) -> bool:
    """Say whether something that speaks gRPC answers behind `stub`, whatever it answers."""
    try:
        await stub.ServerLive(oip.ServerLiveRequest(), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        return error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    return True


def _message(answer: Any) -> Any:
    if answer is None:  # what gRPC makes of bytes that are no message
        raise WireError("the server describes itself in bytes that are no message of the protocol")
    return answer


def check_model(capability: Capability, manifest: Manifest) -> None:
    """Check that the server's model takes the latents of the bundle described by `manifest`.

    A server that says nothing of its inputs is believed until it refuses a frame.

    Raises:
        PeerError: If it takes latents of another shape.
    """
    latent = manifest.latent
    ours = (latent.channels, latent.height, latent.width)
    for tensor in capability.metadata.inputs:
        theirs = tuple(tensor.shape)[1:]
        if tensor.name == LATENT and theirs and (len(theirs) != 3 or not _fits(ours, theirs)):
            raise PeerError(
                f"model {capability.metadata.name!r} on the server takes latents {theirs}, bundle "
                f"{manifest.name} gives {ours}; serve the same bundle on both ends"
            )


def _fits(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    return all(there in (here, -1) for here, there in zip(ours, theirs, strict=True))


def is_busy(error: grpc.aio.AioRpcError, channel: grpc.aio.Channel) -> bool:
    """Say whether a call failed because the server has no room, on a connection that is still good.

    Triton answers UNAVAILABLE when its queue is full, the same code that a lost connection gives.
    """
    return error.code() in _BUSY and channel.get_state() is grpc.ChannelConnectivity.READY


def refusal(error: IsthmusError | grpc.aio.AioRpcError, *, server: str, model: str) -> IsthmusError | None:
    """Return the deliberate error that `error` amounts to; None if another attempt may cure it."""
    if isinstance(error, IsthmusError):
        return error
    if error.code() not in _REFUSALS:
        return None
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return NetworkError(
            f"server {server} has no model {model!r} ({error.details()}); serve the bundle there, or name "
            "the server's model with --model"
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return NetworkError(
            f"server {server} does not speak the Open Inference Protocol ({error.details()}); give the "
            "address of 'isthmus serve' or of another server that does"
        )
    if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return AccessError(f"server {server}: {' '.join((error.details() or error.code().name).split())}")
    return PeerError(f"server {server} refuses model {model!r}: {error_text(error)}")


def error_text(error: BaseException) -> str:
    """Return `error` on one line, with its status code if it has one."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {' '.join((error.details() or '').split())}"
    return str(error)
