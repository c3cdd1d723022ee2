"""The service by hand: a stub and a registration under the protocol's own name.

Generated service code would use our package's name. Generic handlers let our messages answer as
`inference.GRPCInferenceService`, beside any other library's copy of that package in the same process.
"""

# The methods' names are the protocol's.
# ruff: noqa: N802

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from isthmus.runtime.wire import oip_pb2 as oip
from isthmus.runtime.wire.names import SERVICE_NAME

# What a client is told whose request cannot be parsed.
NO_MESSAGE = "bytes that are no message of the Open Inference Protocol"

# method → (request, response); the generated classes share no base that has FromString, hence Any.
_UNARY: dict[str, tuple[Any, Any]] = {
    "ServerLive": (oip.ServerLiveRequest, oip.ServerLiveResponse),
    "ServerReady": (oip.ServerReadyRequest, oip.ServerReadyResponse),
    "ModelReady": (oip.ModelReadyRequest, oip.ModelReadyResponse),
    "ServerMetadata": (oip.ServerMetadataRequest, oip.ServerMetadataResponse),
    "ModelMetadata": (oip.ModelMetadataRequest, oip.ModelMetadataResponse),
    "ModelInfer": (oip.ModelInferRequest, oip.ModelInferResponse),
}


class InferenceStub:
    """The client's side of the service, over a `grpc.Channel` or a `grpc.aio.Channel`.

    Every method is what the channel makes of it: with a plain channel it blocks, with an aio channel it is
    awaited. The types differ so much that they cannot be one annotation.
    """

    ServerLive: Any
    ServerReady: Any
    ModelReady: Any
    ServerMetadata: Any
    ModelMetadata: Any
    ModelInfer: Any
    ModelStreamInfer: Any

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None:
        """Make the methods of the service on `channel`."""
        for name, (request, response) in _UNARY.items():
            method = channel.unary_unary(
                f"/{SERVICE_NAME}/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            setattr(self, name, method)
        self.ModelStreamInfer = channel.stream_stream(
            f"/{SERVICE_NAME}/ModelStreamInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelStreamInferResponse.FromString,
        )


class AsyncServicer(Protocol):
    """What answers the service on a `grpc.aio` server; the methods are the protocol's."""

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Any) -> oip.ServerLiveResponse:
        """Say whether the process answers."""
        ...

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Any) -> oip.ServerReadyResponse:
        """Say whether every model takes frames."""
        ...

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Any) -> oip.ModelReadyResponse:
        """Say whether one model takes frames."""
        ...

    async def ServerMetadata(
        self, request: oip.ServerMetadataRequest, context: Any
    ) -> oip.ServerMetadataResponse:
        """Describe the server and its extensions."""
        ...

    async def ModelMetadata(
        self, request: oip.ModelMetadataRequest, context: Any
    ) -> oip.ModelMetadataResponse:
        """Describe one model's inputs and outputs."""
        ...

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Any) -> oip.ModelInferResponse:
        """Answer one frame."""
        ...

    def ModelStreamInfer(
        self, requests: AsyncIterable[oip.ModelInferRequest], context: Any
    ) -> AsyncIterator[oip.ModelStreamInferResponse]:
        """Answer frames as they become ready."""
        ...


def add_servicer(servicer: AsyncServicer, server: grpc.aio.Server) -> None:
    """Register `servicer` on `server` under the protocol's service name."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(
            _refusing_no_message(getattr(servicer, name)),
            request_deserializer=partial(_parse, request),
            response_serializer=response.SerializeToString,
        )
        for name, (request, response) in _UNARY.items()
    }
    handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        servicer.ModelStreamInfer,
        request_deserializer=oip.ModelInferRequest.FromString,
        response_serializer=oip.ModelStreamInferResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))


_Method = Callable[[Any, Any], Awaitable[Any]]


def _parse(message: Any, data: bytes) -> Any:
    """Return `data` as a `message`, or None: what a deserializer raises, gRPC reports as our own failure."""
    try:
        return message.FromString(data)
    except DecodeError:
        return None


def _refusing_no_message(method: _Method) -> _Method:
    async def answer(request: Any, context: Any) -> Any:
        if request is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, NO_MESSAGE)
        return await method(request, context)

    return answer
