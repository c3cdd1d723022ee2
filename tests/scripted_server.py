"""A real server on loopback that answers as a test tells it, and ways to answer."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np

from isthmus.runtime.wire import (
    EXTENSIONS,
    LATENT,
    Answer,
    add_servicer,
    answer_response,
    parse_request,
    refusal_response,
    server_options,
)
from isthmus.runtime.wire import oip_pb2 as oip


def right_answer(request: oip.ModelInferRequest) -> oip.ModelStreamInferResponse:
    """Answer class 1 to every frame, with the figures our server gives."""
    answer = Answer(
        frame_id=request.id,
        outcome="ok",
        outputs_nc=np.array([[0.0, 3.0, 1.0]], np.float32),
        queue_s=0.0005,
        compute_s=0.001,
        received_ns=1,
    )
    return oip.ModelStreamInferResponse(infer_response=answer_response(answer, model="tiny", output="logits"))


@dataclass
class ScriptedServer:
    """A real gRPC server on loopback whose answers a test decides.

    `reply(request)` returns one stream message, a list of them, None for silence, (status code, details) to
    end the call, or a coroutine of any of these, which holds up the frames behind it.
    """

    reply: Callable[[oip.ModelInferRequest], Any] = right_answer
    extensions: tuple[str, ...] | None = EXTENSIONS
    models: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"tiny": (-1, 4, 4, 4)})
    name: str = "scripted"
    ready: bool = True
    asked_ready: int = 0
    port: int = 0
    requests: list[oip.ModelInferRequest] = field(default_factory=list)
    streams: int = 0
    calls: int = 0

    async def start(self) -> "ScriptedServer":
        self._server = grpc.aio.server(options=server_options())
        add_servicer(self, self._server)  # type: ignore[arg-type]
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def ServerMetadata(self, request: Any, context: Any) -> oip.ServerMetadataResponse:  # noqa: N802
        if self.extensions is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no metadata here")
        return oip.ServerMetadataResponse(name=self.name, version="1", extensions=self.extensions)

    async def ModelMetadata(self, request: Any, context: Any) -> oip.ModelMetadataResponse:  # noqa: N802
        if request.name not in self.models:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name!r}")
        response = oip.ModelMetadataResponse(name=request.name)
        response.inputs.add(name=LATENT, datatype="UINT8", shape=self.models[request.name])
        return response

    async def ModelInfer(self, request: Any, context: Any) -> oip.ModelInferResponse:  # noqa: N802
        self.calls += 1
        for message in await self._replies(request, context):
            return message.infer_response
        await asyncio.Event().wait()
        raise AssertionError

    async def ModelStreamInfer(  # noqa: N802
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[oip.ModelStreamInferResponse]:
        self.streams += 1
        async for request in requests:
            for message in await self._replies(request, context):
                yield message

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    ServerReady = ServerLive

    async def ModelReady(self, request: Any, context: Any) -> oip.ModelReadyResponse:  # noqa: N802
        self.asked_ready += 1
        if request.name not in self.models:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name!r}")
        return oip.ModelReadyResponse(ready=self.ready)

    async def _replies(self, request: oip.ModelInferRequest, context: Any) -> list[Any]:
        parse_request(request)
        self.requests.append(request)
        reply = self.reply(request)
        if inspect.isawaitable(reply):
            reply = await reply
        if isinstance(reply, tuple):
            await context.abort(*reply)
        if reply is None:
            return []
        return reply if isinstance(reply, list) else [reply]


def replies() -> dict[str, Callable[[oip.ModelInferRequest], Any]]:
    """Ways to reply: right, silent, busy, failed, expired, malformed, slow (0.2 s a frame)."""

    def outcome(name: Any) -> Callable[[oip.ModelInferRequest], Any]:
        def reply(request: oip.ModelInferRequest) -> Any:
            return refusal_response(frame_id=request.id, model="tiny", outcome=name, error=f"scripted {name}")

        return reply

    def expired(request: oip.ModelInferRequest) -> Any:
        answer = Answer(frame_id=request.id, outcome="expired", outputs_nc=np.empty((0, 0), np.float32))
        return oip.ModelStreamInferResponse(infer_response=answer_response(answer, model="tiny", output=""))

    def malformed(request: oip.ModelInferRequest) -> Any:
        message = right_answer(request)
        message.infer_response.outputs[0].datatype = "INT9"
        return message

    async def slow(request: oip.ModelInferRequest) -> Any:
        await asyncio.sleep(0.2)
        return right_answer(request)

    return {
        "right": right_answer,
        "silent": lambda request: None,
        "busy": outcome("busy"),
        "failed": outcome("failed"),
        "expired": expired,
        "malformed": malformed,
        "slow": slow,
    }
