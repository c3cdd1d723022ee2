"""What became of one frame, for whoever counts: statistics, metrics, traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from isthmus.runtime.wire import AnswerOutcome


@dataclass(slots=True, kw_only=True)
class FrameRecord:
    """One frame that has ended; times are monotonic seconds.

    Attributes:
        model: Name of the bundle.
        frame_id: The request's id.
        outcome: As its answer says.
        latents: How many it carried.
        request_bytes: Bytes of its payloads or latents.
        answer_bytes: Bytes of its outputs.
        received_s: When it arrived.
        decoded_s: When its latents were there; None: it did not come so far.
        started_s: When its batch started; None: it did not come so far.
        compute_s: Seconds its batch took; 0: there was none.
        ended_s: When it was answered.
        parent: W3C traceparent that came with it; empty: none.
    """

    model: str
    frame_id: str
    outcome: AnswerOutcome
    latents: int
    request_bytes: int
    answer_bytes: int
    received_s: float
    decoded_s: float | None
    started_s: float | None
    compute_s: float
    ended_s: float
    parent: str = ""


class Recorder:
    """Is told of every frame and every batch, on the event loop; this one forgets them."""

    def frame(self, record: FrameRecord) -> None:
        """Take note of a frame that has ended."""

    def batch(self, model: str, latents: int, compute_s: float) -> None:
        """Take note of one run of a tail."""

    def certificate(self, not_after: datetime) -> None:
        """Take note of the certificate that new connections are shown; called on any thread."""

    def model(self, model: str, *, provider: str, queued: Callable[[], int]) -> None:
        """Take note that `model` is served by `provider`; `queued` gives the latents that wait for it."""
