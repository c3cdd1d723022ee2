"""A server of our protocol whose answers a scenario decides, also against the rules.

It runs on threads of this process, so that its ways can be changed while a real agent streams to it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np

from isthmus.runtime.wire import EXTENSIONS, LATENT, Answer, refusal_response, server_options
from isthmus.runtime.wire import oip_pb2 as oip
from isthmus.runtime.wire.answers import answer_response
from isthmus.runtime.wire.names import SERVICE_NAME

# Far longer than any deadline here, and a moment for a server that is only slow.
_SLOW_S = 0.6
# Longer than from one frame to the next, and shorter than any deadline.
_OVERTAKEN_S = 0.08
Reply = Callable[["FakeServer", oip.ModelInferRequest], list[Any]]


class FakeServer:
    """Answers the stream of `model` as `way` says; the ways are `WAYS`.

    Attributes:
        way: May be changed at any time.
        port: Where it listens on loopback.
    """

    def __init__(self, *, way: str = "right", port: int = 0, model: str = "tiny", side: int = 4) -> None:
        """Listen; `side` is the height and width of the latents that it says it takes."""
        self.way, self.model, self._side = way, model, side
        self._threads = ThreadPoolExecutor(16)
        self._server = grpc.server(self._threads, options=server_options())
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def close(self) -> None:
        """Cut every connection."""
        self._server.stop(None).wait(5.0)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _handlers(self) -> Any:
        ready = oip.ModelReadyResponse(ready=True)
        described = oip.ServerMetadataResponse(name="fake", version="1", extensions=EXTENSIONS)
        live = oip.ServerLiveResponse(live=True)
        methods = {
            "ServerLive": _unary(oip.ServerLiveRequest, lambda request, context: live),
            "ServerMetadata": _unary(oip.ServerMetadataRequest, lambda request, context: described),
            "ModelReady": _unary(oip.ModelReadyRequest, lambda request, context: ready),
            "ModelMetadata": _unary(oip.ModelMetadataRequest, self._describe),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                self._stream,
                request_deserializer=oip.ModelInferRequest.FromString,
                response_serializer=_bytes,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    def _describe(self, request: Any, context: Any) -> oip.ModelMetadataResponse:
        response = oip.ModelMetadataResponse(name=request.name)
        response.inputs.add(name=LATENT, datatype="UINT8", shape=(-1, 4, self._side, self._side))
        return response

    def _stream(self, requests: Iterator[oip.ModelInferRequest], context: Any) -> Iterator[Any]:
        answers: queue.Queue[Any] = queue.Queue()
        context.add_callback(lambda: answers.put(None))
        self._threads.submit(self._take, requests, answers)
        while (message := answers.get()) is not None:
            yield message

    def _take(self, requests: Iterator[oip.ModelInferRequest], answers: queue.Queue[Any]) -> None:
        # The stream's end, however it comes, is an exception here; the callback has told the other thread.
        with contextlib.suppress(grpc.RpcError):
            for number, request in enumerate(requests):
                messages = WAYS[self.way](self, request)
                late = self.way == "swapped" and number % 2 == 0
                for message in messages:
                    if late:
                        threading.Timer(_OVERTAKEN_S, answers.put, [message]).start()
                    else:
                        answers.put(message)


def _right(request: oip.ModelInferRequest, frame_id: str | None = None) -> oip.ModelStreamInferResponse:
    answer = Answer(
        frame_id=request.id if frame_id is None else frame_id,
        outcome="ok",
        outputs_nc=np.array([[0.0, 3.0, 1.0]], np.float32),
        queue_s=0.0005,
        compute_s=0.001,
        received_ns=time.monotonic_ns(),
    )
    return oip.ModelStreamInferResponse(infer_response=answer_response(answer, model="tiny", output="logits"))


def _unknown(request: oip.ModelInferRequest) -> list[Any]:
    # Of another run, of a frame never sent, of no number, and of the longest number.
    run, _, frame = request.id.rpartition(".")
    ids = (f"other.{frame}", f"{run}.{int(frame) + 1000}", "", "x", f"{run}.{'9' * 40}", f"{run}.-1")
    return [_right(request, frame_id) for frame_id in ids] + [_right(request)]


def _bad_type(request: oip.ModelInferRequest) -> list[Any]:
    message = _right(request)
    message.infer_response.outputs[0].datatype = "INT9"
    return [message]


def _bad_scores(request: oip.ModelInferRequest) -> list[Any]:
    answer = Answer(frame_id=request.id, outcome="ok", outputs_nc=np.full((1, 3), np.nan, np.float32))
    response = answer_response(answer, model="tiny", output="logits")
    return [oip.ModelStreamInferResponse(infer_response=response)]


def _slow(request: oip.ModelInferRequest) -> list[Any]:
    time.sleep(_SLOW_S)
    return [_right(request)]


def _refusing(outcome: Any) -> Reply:
    def reply(server: FakeServer, request: oip.ModelInferRequest) -> list[Any]:
        return [refusal_response(frame_id=request.id, model=server.model, outcome=outcome, error=outcome)]

    return reply


WAYS: dict[str, Reply] = {
    "right": lambda server, request: [_right(request)],
    "silent": lambda server, request: [],
    "slow": lambda server, request: _slow(request),
    "busy": _refusing("busy"),
    "failed": _refusing("failed"),
    "swapped": lambda server, request: [_right(request)],
    "twice": lambda server, request: [_right(request), _right(request)],
    "unknown": lambda server, request: _unknown(request),
    "bad type": lambda server, request: _bad_type(request),
    "bad scores": lambda server, request: _bad_scores(request),
    "no message": lambda server, request: [b"\xff" * 40],
}


def _bytes(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())


def _unary(request: Any, behaviour: Callable[[Any, Any], Any]) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        behaviour, request_deserializer=request.FromString, response_serializer=_bytes
    )
