"""One frame on its way through a model: checked, admitted, decoded, computed, answered exactly once.

Callbacks rather than coroutines: a frame whose work is short is then answered before `begin` returns, without
one turn of the event loop; it is most of what such a frame costs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.errors import BackendError, BusyError, DrainingError, IsthmusError
from isthmus.runtime.server.records import FrameRecord
from isthmus.runtime.server.tickets import Computed, Result, Ticket
from isthmus.runtime.wire import Answer, AnswerOutcome, FrameRequest

if TYPE_CHECKING:
    from isthmus.runtime.server.model import ServedModel

log = logging.getLogger("isthmus.server")

# Called exactly once, on the event loop, unless the call is cancelled.
Done = Callable[[Answer | IsthmusError], None]

_NO_OUTPUTS = np.empty((0, 0), np.float32)


class FrameCall:
    """A frame being served; made and begun by `ServedModel.begin`."""

    __slots__ = (
        "_deadline_s",
        "_decoded_s",
        "_done",
        "_frame",
        "_model",
        "_parent",
        "_received_ns",
        "_ticket",
    )

    def __init__(
        self, model: ServedModel, frame: FrameRequest, *, received_ns: int, parent: str, done: Done
    ) -> None:
        """See `ServedModel.begin`."""
        self._model = model
        self._frame = frame
        self._received_ns = received_ns
        self._parent = parent
        self._done: Done | None = done
        received_s = received_ns / 1e9
        self._deadline_s = None if frame.budget_s is None else received_s + frame.budget_s
        self._decoded_s: float | None = None
        self._ticket: Ticket | None = None

    def begin(self) -> None:
        """Do what can be done at once."""
        model, frame = self._model, self._frame
        try:
            model.check(frame)
            deadline_s = self._deadline_s
            if deadline_s is not None and deadline_s <= model.clock():
                self._end("expired")
                return
            if model.batcher.is_quick(frame.rows) and self._answered_at_once():
                return
            if not model.batcher.admit(frame.rows, deadline_s=deadline_s):
                self._end("expired")
            elif frame.latent_nchw is not None:
                self._submit(list(frame.latent_nchw))
            elif model.decodes_quickly(frame):
                self._decode_here()
            else:
                self._hand_to_pool()
        except IsthmusError as error:
            self._fail(error)
        except Exception:  # our bug, or no memory: whoever waits for the frame is told all the same
            log.exception("frame %r of model %r", frame.frame_id, frame.model)
            self._fail(BackendError("internal error; see the server's log"))

    def cancel(self) -> None:
        """Forget the frame: nobody is told, and what waits of it makes room for others."""
        if self._done is None:
            return
        if self._ticket is not None:
            self._model.batcher.cancel(self._ticket)
        self._record("failed", None)
        self._done = None
        self._model.ended()

    def _answered_at_once(self) -> bool:
        """Decode, compute and answer without a queue; False if that is not shorter than a hand-off."""
        model, frame = self._model, self._frame
        if frame.latent_nchw is not None:
            latents: Sequence[NDArray[np.uint8]] = list(frame.latent_nchw)
        elif model.decodes_quickly(frame):
            latents = model.decode(frame.payloads)
        else:
            return False
        self._decoded_s = model.clock()
        computed = model.batcher.compute_now(latents)
        if computed is not None:
            self._end("ok", computed)
        return computed is not None

    def _decode_here(self) -> None:
        try:
            latents = self._model.decode(self._frame.payloads)
        except BaseException as error:
            self._model.batcher.release(self._frame.rows)
            if isinstance(error, IsthmusError):
                raise
            log.exception("frame %r of model %r", self._frame.frame_id, self._frame.model)
            raise BackendError("internal error; see the server's log") from None
        self._submit(latents)

    def _hand_to_pool(self) -> None:
        try:
            self._model.workers.decoders.submit(self._decode_in_pool)
        except BaseException:  # no memory for its thread
            self._model.batcher.release(self._frame.rows)
            raise

    def _decode_in_pool(self) -> None:
        try:
            latents = self._model.decode(self._frame.payloads)
        except Exception as error:
            self._model.batcher.release(self._frame.rows)
            if not isinstance(error, IsthmusError):
                log.exception("frame %r of model %r", self._frame.frame_id, self._frame.model)
                error = BackendError("internal error; see the server's log")
            self._model.workers.loop.call_soon_threadsafe(self._fail, error)
            return
        try:
            self._submit(latents, on_loop=False)
        except Exception:  # no memory: nobody looks at what this thread raises
            log.exception("frame %r of model %r", self._frame.frame_id, self._frame.model)
            bug = BackendError("internal error; see the server's log")
            self._model.workers.loop.call_soon_threadsafe(self._fail, bug)

    def _submit(self, latents: Sequence[NDArray[np.uint8]], *, on_loop: bool = True) -> None:
        self._decoded_s = self._model.clock()
        # A call cancelled while it was decoded has a ticket that tells nobody.
        ticket = Ticket(latents, self._computed if self._done is not None else None)
        self._ticket = ticket
        if self._model.batcher.submit(ticket, deadline_s=self._deadline_s, on_loop=on_loop):
            return
        error = DrainingError("the server is stopping; send the frame to another")
        if on_loop:
            self._fail(error)
        else:
            self._model.workers.loop.call_soon_threadsafe(self._fail, error)

    def _computed(self, result: Result) -> None:
        if result is None:
            self._end("expired")
        elif isinstance(result, Computed):
            self._end("ok", result)
        else:
            self._fail(result)

    def _end(self, outcome: AnswerOutcome, computed: Computed | None = None) -> None:
        received_s, now_s = self._received_ns / 1e9, self._model.clock()
        started_s, answer_s = now_s, None
        if computed is not None:
            started_s = computed.started_s
            answer_s = max(0.0, now_s - started_s - computed.compute_s)
        answer = Answer(
            frame_id=self._frame.frame_id,
            outcome=outcome,
            outputs_nc=_NO_OUTPUTS if computed is None else computed.outputs_nc,
            queue_s=max(0.0, started_s - received_s),
            decode_s=None if self._decoded_s is None else max(0.0, self._decoded_s - received_s),
            compute_s=None if computed is None else computed.compute_s,
            answer_s=answer_s,
            received_ns=self._received_ns,
            load_pct=self._model.batcher.load_percent,
        )
        self._tell(answer, outcome, computed)

    def _fail(self, error: IsthmusError) -> None:
        self._tell(error, outcome_of(error), None)

    def _tell(self, result: Answer | IsthmusError, outcome: AnswerOutcome, computed: Computed | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        self._record(outcome, computed)
        self._model.ended()
        done(result)

    def _record(self, outcome: AnswerOutcome, computed: Computed | None) -> None:
        frame = self._frame
        ended_s = self._model.clock()
        self._count(outcome, computed, ended_s)
        if not self._model.workers.recorders:
            return
        request_bytes = (
            sum(map(len, frame.payloads)) if frame.latent_nchw is None else frame.latent_nchw.nbytes
        )
        self._model.record(
            FrameRecord(
                model=frame.model,
                frame_id=frame.frame_id,
                outcome=outcome,
                latents=frame.rows,
                request_bytes=request_bytes,
                answer_bytes=0 if computed is None else computed.outputs_nc.nbytes,
                received_s=self._received_ns / 1e9,
                decoded_s=self._decoded_s,
                started_s=None if computed is None else computed.started_s,
                compute_s=0.0 if computed is None else computed.compute_s,
                ended_s=ended_s,
                parent=self._parent,
            )
        )

    def _count(self, outcome: AnswerOutcome, computed: Computed | None, ended_s: float) -> None:
        received_s = self._received_ns / 1e9
        if computed is None or self._decoded_s is None:
            self._model.statistics.failed(total_s=ended_s - received_s)
            return
        self._model.statistics.answered(
            total_s=ended_s - received_s,
            decode_s=self._decoded_s - received_s,
            queue_s=computed.started_s - self._decoded_s,
            compute_s=computed.compute_s,
        )


def outcome_of(error: IsthmusError) -> AnswerOutcome:
    """Return what `error` means for a frame: "busy" if another attempt may succeed, else "failed"."""
    return "busy" if isinstance(error, BusyError | DrainingError) else "failed"
