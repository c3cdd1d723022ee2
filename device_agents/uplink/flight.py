"""Frames on their way to the server: each is sent in time or not at all.

Decides whether a computed frame may leave, and what an answer means. Lives on the event loop's thread.

A credit bounds what is unanswered: more than all frames of one deadline cannot be answered in time anyway,
and on a link that stands still they would only fill gRPC's and the kernel's buffers with stale bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import msgspec
import numpy as np

from isthmus.device_agents.device import Encoded
from isthmus.device_agents.guard import Guard
from isthmus.device_agents.uplink.peer import Capability, check_model
from isthmus.runtime.bundle import Bundle, Manifest, PointTable
from isthmus.runtime.bundle.networks import with_absent
from isthmus.runtime.control import LinkEstimate, LinkEstimator
from isthmus.runtime.session import FullJitter, Session
from isthmus.runtime.session.timing import RecentMedian
from isthmus.runtime.wire import MAX_MESSAGE_BYTES, Answer, latent_request, lean_request, payload_request
from isthmus.runtime.wire import oip_pb2 as oip

# What a request costs on the wire beyond its bytes: gRPC's prefix (5), an HTTP/2 frame's header (9), IP and
# TCP with timestamps (52).
_FRAMING_BYTES = 5 + 9 + 52
_MOST_UNANSWERED_BYTES = 1 << 20
# What a message needs beside the payload: names, id, parameters.
_MESSAGE_ROOM_BYTES = 4096
# The number of a frame an hour after the start.
_EXAMPLE_ID = "100000"


class FlightOwner(Protocol):
    """Who is told how connections come and go; the agent."""

    def on_form(self, *, as_payload: bool) -> None:
        """Note whether the server just connected takes payloads, or only plain latents."""
        ...

    def note(self, text: str) -> None:
        """Tell people one line."""
        ...


class Flight:
    """Sends frames and takes their answers; the sink of an `Uplink`.

    Args:
        manifest: The bundle's.
        model: Name of the model on the server.
        session: Accounts for the frames.
        guard: Answers what the server does not.
        owner: Who is told.
        most_in_flight: Most frames that may be unanswered (may be set); their bytes have a bound besides.
        busy_backoff: How long to leave a server alone that says it is busy.

    Attributes:
        server: Address of the server that is connected, or was last; None before the first.
        server_load: Share of its time in which it computes, in [0, 1], as it said last; None: it did not.
        connections: How many connections were made.
        connected: There is one now.
        as_payload: The server takes payloads; otherwise plain latents.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        model: str,
        session: Session,
        guard: Guard,
        owner: FlightOwner,
        most_in_flight: int,
        busy_backoff: FullJitter,
    ) -> None:
        self._manifest = manifest
        self._model = model
        self._session = session
        self._guard = guard
        self._owner = owner
        self.most_in_flight = most_in_flight
        self._busy = busy_backoff
        self._busy_until_s = -math.inf
        self._estimator = LinkEstimator(overhead_bytes=self._overhead_bytes(lean=True))
        self._outgoing: dict[int, tuple[Encoded, float]] = {}
        self._unanswered: dict[int, int] = {}
        self._server = RecentMedian()
        self._said: tuple[str, str] | None = None
        self._unsaid: str | None = None
        self._lived = True
        self._lean = self._named = False
        self.server: str | None = None
        self.server_load: float | None = None
        self.connections = 0
        self.connected = False
        self.as_payload = True

    @property
    def reconnects(self) -> int:
        """How often a connection was made again after the first."""
        return max(0, self.connections - 1)

    @property
    def server_s(self) -> float:
        """Seconds the server's part has taken lately."""
        return self._server.seconds

    def estimate(self, now_s: float) -> LinkEstimate:
        """Return what is believed of the link; a server that is busy counts as not there for a while."""
        queued = [encoded.nbytes for encoded, deadline_s in self._outgoing.values() if deadline_s > now_s]
        estimate = self._estimator.estimate(now_s, queued_frames=len(queued), queued_bytes=sum(queued))
        return replace(estimate, connected=False) if now_s < self._busy_until_s else estimate

    def launch(self, frame: int, encoded: Encoded, *, send: Callable[[int], None]) -> None:
        """Hand a frame that the guard watches to the uplink's `send`, unless something stands in the way."""
        if encoded.payload is not None and not self.as_payload:
            # Encoded for another server than the one that is connected now.
            encoded = self._as_plain(encoded)
        obstacle = self._obstacle(encoded.nbytes)
        if obstacle is not None:
            self._guard.recall(frame, obstacle)
            return
        self._outgoing[frame] = (encoded, self._session.deadline_of(frame))
        self._unanswered[frame] = encoded.nbytes
        send(frame)

    def _obstacle(self, nbytes: int) -> str | None:
        if not self.connected:
            return "the connection was lost"
        if nbytes > MAX_MESSAGE_BYTES - _MESSAGE_ROOM_BYTES:
            return f"{nbytes} bytes do not fit a message of {MAX_MESSAGE_BYTES}"
        count, waiting = len(self._unanswered), sum(self._unanswered.values())
        if count >= self.most_in_flight or (count and waiting + nbytes > _MOST_UNANSWERED_BYTES):
            return f"{count} frames ({waiting} B) are unanswered"
        return None

    # What the uplink asks of its sink.

    def on_connected(self, address: str, capability: Capability) -> None:
        """See `UplinkSink`."""
        check_model(capability, self._manifest)
        self.server, self.connected, self.as_payload = address, True, capability.payload
        self.connections += 1
        self.server_load = None
        self._lean, self._named = capability.lean, False
        self._estimator.on_connected(
            time.monotonic(), overhead_bytes=self._overhead_bytes(lean=capability.lean)
        )
        self._busy_until_s = -math.inf
        self._owner.on_form(as_payload=capability.payload)
        form = "payloads" if capability.payload else "plain latents"
        way = "a stream" if capability.stream else "single calls"
        self._unsaid = f"connected to {capability.server} at {address}: {form} over {way}"
        # A server that is lost again and again before it answers anything is news once.
        if self._lived:
            self._say_connected()
        self._lived = False

    def on_down(self, address: str, reason: str) -> None:
        """See `UplinkSink`."""
        if self.connected:
            self.connected = False
            self._estimator.on_disconnected(time.monotonic())
            self._outgoing.clear()
            self._unanswered.clear()
            for frame in self._session.unanswered():
                self._guard.recall(frame, "the connection was lost")
        if (address, reason) != self._said:
            self._owner.note(f"no connection to {address} ({reason}); trying again until a server answers")
            self._said = (address, reason)

    def _say_connected(self) -> None:
        if self._unsaid is not None:
            self._owner.note(self._unsaid)
            self._unsaid = self._said = None

    def message(self, frame: int, frame_id: str) -> oip.ModelInferRequest | None:
        """See `UplinkSink`."""
        now_s = time.monotonic()
        encoded, deadline_s = self._outgoing.pop(frame)
        if deadline_s <= now_s:
            self._guard.recall(frame, "the link did not take it in time")
        if not self._session.sent(frame, now_s, encoded.nbytes):
            self._unanswered.pop(frame, None)
            return None
        self._estimator.on_sent(frame, encoded.nbytes, now_s)
        budget_us = int((deadline_s - now_s) * 1e6)
        if encoded.payload is not None:
            return self._payload_message(encoded.payload, frame_id, budget_us)
        assert encoded.plain_nchw is not None
        return latent_request(
            model=self._model, frame_id=frame_id, latent_nchw=encoded.plain_nchw, budget_us=budget_us
        )

    def _payload_message(self, payload: bytes, frame_id: str, budget_us: int) -> oip.ModelInferRequest:
        if not self._lean:
            return payload_request(
                model=self._model, frame_id=frame_id, payloads=[payload], budget_us=budget_us
            )
        model, self._named = "" if self._named else self._model, True
        return lean_request(model=model, frame_id=frame_id, payload=payload, budget_us=budget_us)

    def _overhead_bytes(self, *, lean: bool) -> int:
        """Return what the wire adds to a payload."""
        example = (
            lean_request(model="", frame_id=_EXAMPLE_ID, payload=b"", budget_us=1 << 20)
            if lean
            else payload_request(model=self._model, frame_id=_EXAMPLE_ID, payloads=[b""], budget_us=1 << 20)
        )
        return example.ByteSize() + _FRAMING_BYTES

    def on_answer(self, frame: int, answer: Answer, now_s: float) -> None:
        """See `UplinkSink`."""
        self._unanswered.pop(frame, None)
        if answer.load_pct is not None:
            self.server_load = min(1.0, max(0.0, answer.load_pct / 100))
        server_s = (answer.queue_s or 0.0) + (answer.compute_s or 0.0)
        self._estimator.on_delivered(frame, now_s, server_received_ns=answer.received_ns, server_s=server_s)
        if answer.outcome == "ok":
            if not self._fits(answer):
                self._guard.recall(frame, "the server's answer cannot be used")
                return
            self._server.add(server_s)
            self._busy.reset()
            self._lived = True
            self._say_connected()
            scores_c = answer.outputs_nc[0]
            event = self._session.remote(
                frame,
                now_s,
                int(scores_c.argmax()),
                server_queue_s=answer.queue_s,
                server_compute_s=answer.compute_s,
                server_decode_s=answer.decode_s,
                server_answer_s=answer.answer_s,
                server_received_s=None if answer.received_ns is None else answer.received_ns / 1e9,
            )
            self._guard.end(event, scores_c)
            return
        if answer.outcome == "busy":
            self._busy_until_s = now_s + max(self._busy.next_s(), answer.retry_after_s)
        if answer.outcome == "failed":
            self._owner.note(f"the server failed a frame: {answer.error}")
        self._guard.recall(frame, f"the server says {answer.outcome}")

    def _as_plain(self, encoded: Encoded) -> Encoded:
        zero_points = self._manifest.latent.zero_points
        plain_nchw = with_absent(encoded.latent_chw[np.newaxis], encoded.channels, zero_points)
        return replace(encoded, payload=None, plain_nchw=plain_nchw)

    def _fits(self, answer: Answer) -> bool:
        outputs = answer.outputs_nc
        if outputs.shape == (1, len(self._manifest.labels)) and bool(np.isfinite(outputs).all()):
            return True
        self._owner.note(f"answers of shape {outputs.shape}, or that are no finite numbers, are not used")
        return False


def plain_points(bundle: Bundle) -> PointTable:
    """Return the bundle's table for a server that takes only plain latents: every point has the same size."""
    latent = bundle.manifest.latent
    nbytes = latent.channels * latent.height * latent.width
    records = tuple(
        msgspec.structs.replace(record, bytes_mean=float(nbytes), bytes_p95=float(nbytes), bytes_max=nbytes)
        for record in bundle.points.records
    )
    return msgspec.structs.replace(bundle.points, records=records)
