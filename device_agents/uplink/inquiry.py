"""Ask a server what it answers to many latents, all of them, without deadlines.

Decides which form the server is sent (by what it says it understands) and that any frame left unanswered is
an error: a measurement with holes is none. The agent's uplink, where frames may be late or lost, is `stream`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.uplink.peer import Capability, ask_capability, check_model, error_text
from isthmus.device_agents.uplink.trust import why_refused
from isthmus.runtime.bundle import Manifest, OperatingPoint
from isthmus.runtime.bundle.networks import with_absent
from isthmus.runtime.errors import NetworkError, PeerError
from isthmus.runtime.wire import (
    Answer,
    InferenceStub,
    latent_request,
    parse_answer,
    parse_stream_answer,
    payload_request,
)
from isthmus.runtime.wire import oip_pb2 as oip
from isthmus.runtime.wire.tls import DEFAULT_SECURITY, ClientSecurity

# Enough that the server can batch, little enough that its queue never refuses one.
_IN_FLIGHT = 32
_ANSWER_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 10.0


class Inquiry:
    """Asks one server about many latents and gives its answers in their order."""

    def __init__(
        self,
        stub: InferenceStub,
        server: str,
        model: str,
        manifest: Manifest,
        security: ClientSecurity = DEFAULT_SECURITY,
    ) -> None:
        """Take the stub of an open channel, how it was made, the model's name there, and the bundle."""
        self._stub, self._server, self._model, self._manifest = stub, server, model, manifest
        self._security = security
        self._capability: Capability | None = None

    @property
    def server_name(self) -> str:
        """What the server says it is."""
        assert self._capability is not None
        return self._capability.server

    async def connect(self) -> None:
        """Find out what the server understands.

        Raises:
            NetworkError: If it cannot be reached or lacks the model.
            PeerError: If the model there is not the bundle's.
            AccessError: If TLS or authentication fails.
        """
        try:
            self._capability = await ask_capability(self._stub, self._model, timeout_s=_CONNECT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise await self._deliberate(error) from None
        check_model(self._capability, self._manifest)

    async def ask(
        self, payloads: Sequence[bytes], latents_nchw: NDArray[np.uint8], point: OperatingPoint
    ) -> NDArray[np.int64]:
        """Return the class that the server answers for each image, int64 [n].

        Args:
            payloads: The images' latents at `point`, encoded.
            latents_nchw: The same with all channels, for a server that takes plain latents only.
            point: The operating point.

        Raises:
            NetworkError: If the connection breaks.
            PeerError: If the server refuses one or answers nonsense.
        """
        assert self._capability is not None
        if self._capability.payload:
            requests = [
                payload_request(model=self._model, frame_id=str(index), payloads=[payload], budget_us=None)
                for index, payload in enumerate(payloads)
            ]
        else:
            plain = with_absent(latents_nchw, point.channels, self._manifest.latent.zero_points)
            requests = [
                latent_request(
                    model=self._model,
                    frame_id=str(index),
                    latent_nchw=plain[index : index + 1],
                    budget_us=None,
                )
                for index in range(len(plain))
            ]
        answers = np.full(len(requests), -1, dtype=np.int64)
        try:
            if self._capability.stream:
                await self._stream(requests, answers)
            else:
                await self._calls(requests, answers)
        except grpc.aio.AioRpcError as error:
            raise await self._deliberate(error) from None
        return answers

    async def _stream(self, requests: Sequence[oip.ModelInferRequest], answers: NDArray[np.int64]) -> None:
        call = self._stub.ModelStreamInfer(timeout=_ANSWER_TIMEOUT_S + len(requests))
        room = asyncio.Semaphore(_IN_FLIGHT)

        async def write() -> None:
            for request in requests:
                await room.acquire()
                await call.write(request)
            await call.done_writing()

        writer = asyncio.ensure_future(write())
        try:
            for _ in requests:
                message = await call.read()
                if message is grpc.aio.EOF:
                    raise PeerError(f"server {self._server} ended the stream early; see its log")
                self._note(parse_stream_answer(message), answers)
                room.release()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INTERNAL:
                # A write into a stream that has just been refused hides the server's reason behind gRPC's own
                # error: ask about the first frame again, by itself.
                waiting = int(np.flatnonzero(answers < 0)[0])
                await self._calls(requests[waiting : waiting + 1], answers)
            raise
        finally:
            call.cancel()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)  # why it ended, reading has told

    async def _calls(self, requests: Sequence[oip.ModelInferRequest], answers: NDArray[np.int64]) -> None:
        room = asyncio.Semaphore(_IN_FLIGHT)

        async def call(request: oip.ModelInferRequest) -> None:
            async with room:
                self._note(
                    parse_answer(await self._stub.ModelInfer(request, timeout=_ANSWER_TIMEOUT_S)), answers
                )

        await asyncio.gather(*(call(request) for request in requests))

    def _note(self, answer: Answer, answers: NDArray[np.int64]) -> None:
        if answer.outcome != "ok":
            why = answer.error or answer.outcome
            raise PeerError(f"server {self._server} did not answer image {answer.frame_id}: {why}")
        known = answer.frame_id.isdecimal() and len(answer.frame_id) <= len(str(len(answers)))
        index = int(answer.frame_id) if known else len(answers)
        if (
            index >= len(answers)
            or answers[index] >= 0
            or answer.outputs_nc.shape != (1, len(self._manifest.labels))
        ):
            raise PeerError(
                f"server {self._server} answered frame {answer.frame_id!r} with {answer.outputs_nc.shape}; "
                "serve the same bundle there"
            )
        answers[index] = int(answer.outputs_nc[0].argmax())

    async def _deliberate(self, error: grpc.aio.AioRpcError) -> Exception:
        refused = await why_refused(error, server=self._server, model=self._model, security=self._security)
        return refused or NetworkError(
            f"server {self._server}: {error_text(error)}; start one with 'isthmus serve'"
        )
