"""gRPC's side of the service: convert, delegate, convert."""

# The methods' names are the protocol's.
# ruff: noqa: N802

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from isthmus import __version__
from isthmus.runtime.errors import IsthmusError, UnknownModelError
from isthmus.runtime.server.model import VERSION
from isthmus.runtime.server.refusals import refuse
from isthmus.runtime.server.service import TailService
from isthmus.runtime.server.stream import FrameStream
from isthmus.runtime.wire import BUNDLE, EXTENSIONS, LATENT, PAYLOAD, answer_response, oip, parse_request

# W3C Trace Context's name, which OpenTelemetry's clients send.
TRACEPARENT = "traceparent"

if TYPE_CHECKING:
    from collections.abc import Iterator

    Context = grpc.aio.ServicerContext[Any, Any]


class Servicer:
    """Answers the protocol on a `grpc.aio` server; see `isthmus.runtime.wire.AsyncServicer`.

    Attributes:
        idle: Set while no frame and no stream is being served.
    """

    def __init__(self, service: TailService, *, stream_window: int) -> None:
        """Make a servicer of `service` whose streams have at most `stream_window` frames in flight."""
        self.idle = asyncio.Event()
        self.idle.set()
        self._service = service
        self._stream_window = stream_window
        self._streams: set[FrameStream] = set()
        self._calls = 0

    def drain(self) -> None:
        """End every stream once its accepted frames are answered."""
        for stream in self._streams:
            stream.stop_reading()

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Context) -> oip.ServerLiveResponse:
        """Say whether the process answers."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Context) -> oip.ServerReadyResponse:
        """Say whether every model takes frames."""
        return oip.ServerReadyResponse(ready=self._service.state == "serving")

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Context) -> oip.ModelReadyResponse:
        """Say whether one model takes frames; one that is not there does not."""
        try:
            ready = self._service.is_ready(request.name, request.version)
        except UnknownModelError:  # Triton's clients ask this until it is true
            ready = False
        return oip.ModelReadyResponse(ready=ready)

    async def ServerMetadata(
        self, request: oip.ServerMetadataRequest, context: Context
    ) -> oip.ServerMetadataResponse:
        """Describe the server; its extensions tell an agent that it takes payloads and streams."""
        return oip.ServerMetadataResponse(name="isthmus", version=__version__, extensions=EXTENSIONS)

    async def ModelMetadata(
        self, request: oip.ModelMetadataRequest, context: Context
    ) -> oip.ModelMetadataResponse:
        """Describe one model's inputs and outputs; NOT_FOUND if there is none such, UNAVAILABLE at first."""
        try:
            model = self._service.model(request.name, request.version)
        except IsthmusError as error:
            await refuse(context, error)
        tensor = oip.ModelMetadataResponse.TensorMetadata
        spec = model.latent
        described = oip.ModelMetadataResponse(
            name=model.name,
            versions=[VERSION],
            platform="isthmus_bundle",
            inputs=[
                tensor(name=LATENT, datatype="UINT8", shape=[-1, spec.channels, spec.height, spec.width]),
                tensor(name=PAYLOAD, datatype="BYTES", shape=[-1]),
            ],
            outputs=[
                tensor(
                    name=model.backend.output, datatype="FP32", shape=[-1, len(model.bundle.manifest.labels)]
                )
            ],
        )
        described.parameters[BUNDLE].string_param = model.bundle.digest
        return described

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Context) -> oip.ModelInferResponse:
        """Answer one frame."""
        received_ns = time.monotonic_ns()
        with self._call():
            try:
                self._service.accept()
                frame = parse_request(request)
                output = self._service.output(frame.model)
                answer = await self._service.infer(
                    frame, received_ns=received_ns, parent=_traceparent(context)
                )
            except IsthmusError as error:
                await refuse(context, error)
        return answer_response(answer, model=frame.model, output=output, lean=frame.lean)

    async def ModelStreamInfer(
        self, requests: AsyncIterable[oip.ModelInferRequest], context: Context
    ) -> None:
        """Answer frames as they become ready; see `FrameStream` for what ends the stream."""
        stream = FrameStream(self._service, window=self._stream_window)
        self._streams.add(stream)
        if self._service.state == "draining":
            stream.stop_reading()
        try:
            with self._call():
                await stream.serve(context)
        finally:
            self._streams.discard(stream)
        if stream.fault is not None:
            await refuse(context, stream.fault)
        if self._service.state == "draining":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining; connect to another")

    @contextmanager
    def _call(self) -> Iterator[None]:
        self._calls += 1
        self.idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self.idle.set()


def _traceparent(context: Context) -> str:
    """Return the W3C traceparent in a call's metadata; empty if there is none."""
    return next((str(value) for key, value in context.invocation_metadata() or () if key == TRACEPARENT), "")
