"""Where one frame's time goes, from instants that client and server take on the clock they share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import grpc.aio
import numpy as np

from _peers.round_trips import Request
from isthmus.runtime.wire import SERVICE_NAME, oip, parse_answer

# Stage → (its beginning, its end), marks in the order of a frame's way; "client" marks are the client's.
STAGES: Mapping[str, tuple[str, str]] = {
    "client_message_s": ("begin", "built"),
    "client_write_s": ("built", "serialise"),
    "client_serialise_s": ("serialise", "serialised"),
    "to_server_s": ("serialised", "parse"),
    "server_parse_s": ("parse", "parsed"),
    "server_wake_s": ("parsed", "received"),
    "check_and_decode_s": ("received", "decoded"),
    "queue_s": ("decoded", "started"),
    "compute_s": ("started", "computed"),
    "answer_s": ("computed", "ended"),
    "server_write_s": ("ended", "write"),
    "server_serialise_s": ("write", "written"),
    "to_client_s": ("written", "client_parse"),
    "client_parse_s": ("client_parse", "client_parsed"),
    "client_wake_s": ("client_parsed", "end"),
}

Marks = dict[str, int]


class TracedStream:
    """A stream to a traced server that notes its own instants of every frame."""

    def __init__(self, channel: grpc.aio.Channel, request: Request, *, prefix: str) -> None:
        """Open it on `channel`; ids start with `prefix`, since one server serves several streams."""
        self.marks: dict[str, Marks] = {}
        self._channel, self._request, self._prefix = channel, request, prefix
        self._now: Marks = {}
        self._call: Any = channel.stream_stream(
            f"/{SERVICE_NAME}/ModelStreamInfer",
            request_serializer=self._serialise,
            response_deserializer=self._parse,
        )()

    async def once(self) -> None:
        """Send one frame and take its answer."""
        frame_id = f"{self._prefix}{len(self.marks)}"
        marks = self._now = {"begin": time.monotonic_ns()}
        message = self._request(frame_id)
        marks["built"] = time.monotonic_ns()
        await self._call.write(message)
        response = await self._call.read()
        parse_answer(response.infer_response)
        marks["end"] = time.monotonic_ns()
        self.marks[frame_id] = marks

    async def close(self) -> None:
        """Hang up."""
        self._call.cancel()
        await self._channel.close()

    def _serialise(self, message: oip.ModelInferRequest) -> bytes:
        self._now["serialise"] = time.monotonic_ns()
        data = message.SerializeToString()
        self._now["serialised"] = time.monotonic_ns()
        return data

    def _parse(self, data: bytes) -> oip.ModelStreamInferResponse:
        self._now["client_parse"] = time.monotonic_ns()
        message = oip.ModelStreamInferResponse.FromString(data)
        self._now["client_parsed"] = time.monotonic_ns()
        return message


def stage_table(
    client: Mapping[str, Marks], server: Mapping[str, Marks], *, skipped: int
) -> dict[str, dict[str, float]]:
    """Return median and quartiles of the seconds of each stage, of all frames but the first `skipped`."""
    seconds: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "decode_s", "total_s")}
    for frame_id, own in list(client.items())[skipped:]:
        marks = {**server[frame_id], **own}
        for stage, (begin, end) in STAGES.items():
            seconds[stage].append((marks[end] - marks[begin]) / 1e9)
        # Decoding is part of check_and_decode, measured by itself.
        seconds["decode_s"].append(marks["decode"] / 1e9)
        seconds["total_s"].append((marks["end"] - marks["begin"]) / 1e9)
    return {stage: _spread(values) for stage, values in seconds.items()}


def _spread(values: list[float]) -> dict[str, float]:
    first, median, third = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return {
        "median": median,
        "first_quartile": first,
        "third_quartile": third,
        "mean": float(np.mean(values)),
    }
