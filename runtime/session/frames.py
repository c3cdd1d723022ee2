"""The account of a run: every captured frame ends exactly once.

Decides when a frame has ended and how, and when the device must answer in the server's stead. Knows no clock,
socket, thread or model: whoever drives it (the live agent, a simulator) passes the time and obeys `due`.

A frame's way, each arrow taken at most once:

    captured ─ waiting ─ computing ─┬─ queued ─ sent ─ answering ─ ended
                  │                 └──────────────────┘
                  └ superseded by newer frames: dropped

An answer counts if its frame was sent and has not ended; a repeated, unknown or overtaken answer changes
nothing, so that a peer can neither add a frame nor end one twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.events import OUTCOMES, FrameEvent, Outcome
from isthmus.runtime.session.frame_state import FrameState, Phase


class Session:
    """Accounts for the frames of one run.

    Args:
        deadline_s: Seconds from capture within which an answer counts as in time. The attribute of that name
            may be set at any time; frames captured before keep theirs.
        give_up_s: Seconds past the deadline at which a frame that the device cannot answer is dropped; until
            then the server's answer would still end it as `late`.
        queue_limit: Most frames that wait to be computed, in the order of their capture; when one more comes,
            the oldest is dropped. None: only the newest waits.
    """

    def __init__(self, *, deadline_s: float, give_up_s: float = 10.0, queue_limit: int | None = None) -> None:
        assert queue_limit is None or queue_limit >= 1
        self.deadline_s = deadline_s
        self.give_up_s = give_up_s
        self.captured = 0
        self.outcomes: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self._open: dict[int, FrameState] = {}
        self._queue_limit = queue_limit
        self._waiting: deque[int] = deque()

    @property
    def open_frames(self) -> int:
        """Frames captured and not ended."""
        return len(self._open)

    def capture(self, now_s: float, *, truth: int | None = None) -> tuple[int, FrameEvent | None]:
        """Count a frame captured at `now_s`; it waits until `take`.

        Returns:
            Its number, and the end of the frame that had to go, if as many as may wait did so.
        """
        superseded = None
        if len(self._waiting) >= (self._queue_limit or 1):
            why = "superseded by a newer frame"
            if self._queue_limit is not None:
                why = f"{len(self._waiting)} newer frames were waiting"
            superseded = self.drop(self._waiting[0], now_s, why)
        frame = self.captured
        self.captured += 1
        self._open[frame] = FrameState(captured_s=now_s, deadline_s=self.deadline_s, truth=truth)
        self._waiting.append(frame)
        return frame, superseded

    def take(self) -> int | None:
        """Return the frame that has waited longest, which is computed from now on; None if there is none."""
        if not self._waiting:
            return None
        frame = self._waiting.popleft()
        self._open[frame].phase = Phase.COMPUTING
        return frame

    def deadline_of(self, frame: int) -> float:
        """Return the instant by which the open frame must be answered."""
        state = self._open[frame]
        return state.captured_s + state.deadline_s

    def decided(
        self, frame: int, *, point: OperatingPoint | None, probe: bool = False, reason: str = ""
    ) -> None:
        """Note the policy's choice for a frame that is being computed."""
        state = self._open.get(frame)
        if state is not None:
            state.point, state.probe, state.reason = point, probe, reason

    def began(self, frame: int, now_s: float) -> None:
        """Note that the device begins to compute the frame at `now_s`."""
        state = self._open.get(frame)
        if state is not None:
            state.began_s = now_s

    def computed(
        self,
        frame: int,
        *,
        head_s: float | None,
        encode_s: float | None,
        exit_s: float | None = None,
        handover_s: float | None = None,
        now_s: float | None = None,
    ) -> bool:
        """Note what computing took, in seconds; None: that part did not happen, or nobody looked.

        Args:
            frame: The frame.
            head_s: The head.
            encode_s: The codec.
            exit_s: The early exit, if it was asked before sending and not sure enough.
            handover_s: From the event loop to the thread that computed, and back.
            now_s: When its result was back.

        Returns:
            Whether the frame is still open (a run that is being closed ends frames at any moment).
        """
        state = self._open.get(frame)
        if state is None:
            return False
        state.head_s, state.exit_s, state.encode_s = head_s, exit_s, encode_s
        state.handover_s, state.computed_s = handover_s, now_s
        return True

    def queue(self, frame: int, *, answer_s: float | None) -> bool:
        """Hand the frame to the uplink.

        Args:
            frame: A frame that was computed.
            answer_s: Seconds before its deadline at which the device must begin to answer it itself; None if
                the device cannot.

        Returns:
            Whether the frame is still open.
        """
        state = self._open.get(frame)
        if state is None or state.phase is not Phase.COMPUTING:
            return False
        state.phase = Phase.QUEUED
        state.guard_s = None if answer_s is None else state.captured_s + state.deadline_s - answer_s
        return True

    def sent(self, frame: int, now_s: float, payload_bytes: int) -> bool:
        """Note that the frame leaves the device now.

        Returns:
            False if it must not be sent: it has ended, or the device is answering it already.
        """
        state = self._open.get(frame)
        if state is None or state.phase is not Phase.QUEUED:
            return False
        state.phase, state.sent_s, state.payload_bytes = Phase.SENT, now_s, payload_bytes
        return True

    def remote(
        self,
        frame: int,
        now_s: float,
        answer: int,
        *,
        server_queue_s: float | None = None,
        server_compute_s: float | None = None,
        server_decode_s: float | None = None,
        server_answer_s: float | None = None,
        server_received_s: float | None = None,
    ) -> FrameEvent | None:
        """End the frame with the server's answer, and the times that came with it (see `FrameEvent`).

        Returns:
            Its end; None if it was never sent or has ended already.
        """
        state = self._open.get(frame)
        if state is None or state.sent_s is None:
            return None
        # A device that had begun to answer as well did so beside the server, not before it.
        state.recalled_s = None
        state.remote_s = now_s - state.sent_s
        state.server_received_s, state.server_decode_s = server_received_s, server_decode_s
        state.server_queue_s, state.server_compute_s = server_queue_s, server_compute_s
        state.server_answer_s = server_answer_s
        return self._end(frame, now_s, "remote", answer=answer)

    def device(
        self,
        frame: int,
        now_s: float,
        kind: Literal["exit", "local"],
        answer: int,
        *,
        answer_s: float | None = None,
    ) -> FrameEvent | None:
        """End the frame with the device's own answer; None if it has ended already.

        Args:
            frame: The frame.
            now_s: When.
            kind: Who answered.
            answer: Class index.
            answer_s: Seconds it took; None: all since `recall` or `due` asked for it, hand-overs included.
        """
        state = self._open.get(frame)
        if state is None:
            return None
        if answer_s is None and state.recalled_s is not None:
            answer_s = now_s - state.recalled_s
        return self._end(frame, now_s, kind, answer=answer, answer_s=answer_s)

    def drop(self, frame: int, now_s: float, reason: str) -> FrameEvent | None:
        """End the frame without an answer; None if it has ended already."""
        state = self._open.get(frame)
        if state is None:
            return None
        state.reason = _joined(state.reason, reason)
        return self._end(frame, now_s, "dropped")

    def recall(self, frame: int, reason: str = "", *, now_s: float | None = None) -> bool:
        """Let the device answer a queued or sent frame now, because the server will not, for `reason`.

        Returns:
            Whether the caller must do so (or drop it); False if the frame has ended or is being answered.
        """
        state = self._open.get(frame)
        if state is None or state.phase not in (Phase.QUEUED, Phase.SENT):
            return False
        state.phase, state.recalled_s = Phase.ANSWERING, now_s
        state.reason = _joined(state.reason, reason)
        return True

    def due(self, now_s: float) -> tuple[list[int], list[FrameEvent]]:
        """Return what the passing of time demands.

        Returns:
            The frames that the device must begin to answer now, and the ends of those given up.
        """
        answer, given_up = [], []
        for frame, state in list(self._open.items()):
            due_s = state.due_s(self.give_up_s)
            if due_s is None or due_s > now_s:
                continue
            if state.guard_s is not None:
                state.phase, state.recalled_s = Phase.ANSWERING, now_s
                answer.append(frame)
            else:
                given_up.append(self.drop(frame, now_s, f"no answer within {self.give_up_s:g} s"))
        return answer, [event for event in given_up if event is not None]

    def next_due_s(self) -> float | None:
        """Return the instant of the next demand of `due`; None if nothing is pending."""
        return min(_known(state.due_s(self.give_up_s) for state in self._open.values()), default=None)

    def unanswered(self) -> list[int]:
        """Return the frames that wait for the server: queued or sent."""
        return [frame for frame, state in self._open.items() if state.phase in (Phase.QUEUED, Phase.SENT)]

    def close(self, now_s: float, reason: str) -> list[FrameEvent]:
        """End every open frame without an answer."""
        ended = [self.drop(frame, now_s, reason) for frame in list(self._open)]
        return [event for event in ended if event is not None]

    def _end(
        self,
        frame: int,
        now_s: float,
        outcome: Outcome,
        *,
        answer: int | None = None,
        answer_s: float | None = None,
    ) -> FrameEvent:
        state = self._open.pop(frame)
        if state.phase is Phase.WAITING:
            self._waiting.remove(frame)
        latency_s = None if answer is None else now_s - state.captured_s
        if latency_s is not None and latency_s > state.deadline_s:
            outcome = "late"
        self.outcomes[outcome] += 1
        return state.ended(frame, now_s, outcome, answer=answer, latency_s=latency_s, answer_s=answer_s)


def _known(values: Iterable[float | None]) -> Iterable[float]:
    return (value for value in values if value is not None)


def _joined(reason: str, more: str) -> str:
    return "; ".join(part for part in (reason, more) if part)
