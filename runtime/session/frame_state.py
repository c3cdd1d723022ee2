"""One frame that has not ended: where it is, and the instants and durations that its end will tell."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.events import FrameEvent, Outcome


class Phase(IntEnum):
    """How far a frame has come; see `Session`."""

    WAITING = 0
    COMPUTING = 1
    QUEUED = 2
    SENT = 3
    ANSWERING = 4


@dataclass(slots=True)
class FrameState:
    """What is known of a frame that has not ended.

    `*_s` of verbs in the past are instants; `remote_s` and `server_*_s` are as in `FrameEvent`.
    """

    captured_s: float
    deadline_s: float
    truth: int | None
    phase: Phase = Phase.WAITING
    point: OperatingPoint | None = None
    probe: bool = False
    reason: str = ""
    began_s: float | None = None
    handover_s: float | None = None
    head_s: float | None = None
    exit_s: float | None = None
    encode_s: float | None = None
    computed_s: float | None = None
    payload_bytes: int = 0
    sent_s: float | None = None
    guard_s: float | None = None
    recalled_s: float | None = None
    remote_s: float | None = None
    server_received_s: float | None = None
    server_decode_s: float | None = None
    server_queue_s: float | None = None
    server_compute_s: float | None = None
    server_answer_s: float | None = None

    def due_s(self, give_up_s: float) -> float | None:
        """Return when the device must answer, or give up, a frame that waits for the server."""
        if self.phase not in (Phase.QUEUED, Phase.SENT):
            return None
        return self.guard_s if self.guard_s is not None else self.captured_s + self.deadline_s + give_up_s

    def ended(
        self,
        frame: int,
        now_s: float,
        outcome: Outcome,
        *,
        answer: int | None,
        latency_s: float | None,
        answer_s: float | None,
    ) -> FrameEvent:
        """Return the frame's end at `now_s`."""
        return FrameEvent(
            at_s=now_s,
            frame=frame,
            captured_s=self.captured_s,
            outcome=outcome,
            point=self.point,
            payload_bytes=self.payload_bytes,
            answer=answer,
            truth=self.truth,
            latency_s=latency_s,
            wait_s=_between(self.captured_s, self.began_s),
            handover_s=self.handover_s,
            head_s=self.head_s,
            exit_s=self.exit_s,
            encode_s=self.encode_s,
            send_s=_between(self.computed_s, self.sent_s),
            vain_s=_between(self.computed_s if self.sent_s is None else self.sent_s, self.recalled_s),
            answer_s=answer_s,
            remote_s=self.remote_s,
            server_received_s=self.server_received_s,
            server_decode_s=self.server_decode_s,
            server_queue_s=self.server_queue_s,
            server_compute_s=self.server_compute_s,
            server_answer_s=self.server_answer_s,
            probe=self.probe,
            reason=self.reason,
        )


def _between(from_s: float | None, until_s: float | None) -> float | None:
    return None if from_s is None or until_s is None else until_s - from_s
