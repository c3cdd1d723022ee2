"""The service by hand: a stub and a registration under the protocol's own name.

Generated service code would use our package's name. Generic handlers let our messages answer as
`inference.GRPCInferenceService`, beside any other library's copy of that package in the same process.
"""

# The methods' names are the protocol's.
# ruff: noqa: N802

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
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
# The same of Triton's extensions.
_EXTENSIONS: dict[str, tuple[Any, Any]] = {
    "ModelConfig": (oip.ModelConfigRequest, oip.ModelConfigResponse),
    "ModelStatistics": (oip.ModelStatisticsRequest, oip.ModelStatisticsResponse),
    "RepositoryIndex": (oip.RepositoryIndexRequest, oip.RepositoryIndexResponse),
    "RepositoryModelLoad": (oip.RepositoryModelLoadRequest, oip.RepositoryModelLoadResponse),
    "RepositoryModelUnload": (oip.RepositoryModelUnloadRequest, oip.RepositoryModelUnloadResponse),
}

_NO_SHARED_MEMORY = "this server has no shared memory; send tensors in the messages"
# Methods of Triton's that its clients may call and we do not have. gRPC's own answer would not say why.
_NOT_HERE = {
    **{
        f"{kind}SharedMemory{verb}": _NO_SHARED_MEMORY
        for kind in ("System", "Cuda")
        for verb in ("Status", "Register", "Unregister")
    },
    "TraceSetting": "this server has no trace settings; it exports OpenTelemetry traces where that is set up",
    "LogSettings": "this server's log settings cannot be changed while it runs; see 'isthmus serve --help'",
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
    ModelConfig: Any
    ModelStatistics: Any
    RepositoryIndex: Any
    RepositoryModelLoad: Any
    RepositoryModelUnload: Any

    def __init__(
        self, channel: grpc.Channel | grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Make the methods of the service on `channel`; every call carries `metadata`."""
        for name, (request, response) in {**_UNARY, **_EXTENSIONS}.items():
            method = channel.unary_unary(
                f"/{SERVICE_NAME}/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            setattr(self, name, partial(method, metadata=metadata) if metadata else method)
        stream = channel.stream_stream(
            f"/{SERVICE_NAME}/ModelStreamInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelStreamInferResponse.FromString,
        )
        self.ModelStreamInfer = partial(stream, metadata=metadata) if metadata else stream


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

    async def ModelStreamInfer(self, requests: AsyncIterable[oip.ModelInferRequest], context: Any) -> None:
        """Answer frames as they become ready, by `context.read` and `context.write`."""
        ...


class ExtensionServicer(Protocol):
    """What a servicer may answer besides: Triton's model configuration, statistics and repository."""

    async def ModelConfig(self, request: oip.ModelConfigRequest, context: Any) -> oip.ModelConfigResponse:
        """Describe how one model is served."""
        ...

    async def ModelStatistics(
        self, request: oip.ModelStatisticsRequest, context: Any
    ) -> oip.ModelStatisticsResponse:
        """Return the counters of one model, or of all."""
        ...

    async def RepositoryIndex(
        self, request: oip.RepositoryIndexRequest, context: Any
    ) -> oip.RepositoryIndexResponse:
        """List the models and their states."""
        ...

    async def RepositoryModelLoad(
        self, request: oip.RepositoryModelLoadRequest, context: Any
    ) -> oip.RepositoryModelLoadResponse:
        """Load a model, or load it again."""
        ...

    async def RepositoryModelUnload(
        self, request: oip.RepositoryModelUnloadRequest, context: Any
    ) -> oip.RepositoryModelUnloadResponse:
        """Take a model out of service."""
        ...


def add_servicer(
    servicer: AsyncServicer, server: grpc.aio.Server, extensions: ExtensionServicer | None = None
) -> None:
    """Register `servicer` on `server` under the protocol's service name, and `extensions` if there are."""
    handlers = _unary_handlers(servicer, _UNARY)
    if extensions is not None:
        handlers |= _unary_handlers(extensions, _EXTENSIONS)
    # The requests are left as bytes: whatever they ask, the answer is the same.
    for name, why in _NOT_HERE.items():
        handlers[name] = grpc.unary_unary_rpc_method_handler(_unimplemented(why))
    handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        servicer.ModelStreamInfer,
        request_deserializer=oip.ModelInferRequest.FromString,
        response_serializer=oip.ModelStreamInferResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))


_Method = Callable[[Any, Any], Awaitable[Any]]
_Handlers = dict[str, "grpc.RpcMethodHandler[Any, Any]"]


def _unary_handlers(servicer: object, methods: dict[str, tuple[Any, Any]]) -> _Handlers:
    return {
        name: grpc.unary_unary_rpc_method_handler(
            _refusing_no_message(getattr(servicer, name)),
            request_deserializer=partial(_parse, request),
            response_serializer=response.SerializeToString,
        )
        for name, (request, response) in methods.items()
    }


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


def _unimplemented(why: str) -> _Method:
    async def answer(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, why)

    return answer
