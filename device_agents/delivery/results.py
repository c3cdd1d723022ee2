"""What a run hands out: one result per frame, to a callback, as JSON lines, or to an MQTT broker.

Decides what a result holds and that handing it out never holds up a frame: results wait in a bounded queue
for a thread of their own, and those that find it full are dropped, counted and said.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.errors import ArtifactError, InputError
from isthmus.runtime.events import FrameEvent, Outcome

_MOST_WAITING = 1000
# A reader that has stopped reading must not keep a run from ending.
_CLOSE_S = 2.0


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of one frame, for whoever wants answers.

    Attributes:
        frame: Its number in the run.
        captured_unix_s: When it was captured, seconds since 1970 by this machine's clock.
        outcome: "remote", "exit", "local": answered in time, by the server or here; "late": answered after
            its deadline; "dropped": not answered.
        answer: Class index; None: no answer.
        label: The bundle's name of that class.
        probabilities: Softmax over the bundle's labels, if the server answered.
        latency_s: Seconds from capture to answer; None: no answer.
        point: What was computed or sent; None: nothing was.
        payload_bytes: What was sent; 0: nothing was.
        truth: Class index, where the source knows it.
        reason: Why this point, and why the frame ended so, in words.
    """

    frame: int
    captured_unix_s: float
    outcome: Outcome
    answer: int | None = None
    label: str | None = None
    probabilities: tuple[float, ...] | None = None
    latency_s: float | None = None
    point: OperatingPoint | None = None
    payload_bytes: int = 0
    truth: int | None = None
    reason: str = ""


def make_result(event: FrameEvent, scores_c: NDArray[np.float32] | None, labels: Sequence[str]) -> Result:
    """Return the result of a frame that has just ended.

    Args:
        event: Its end.
        scores_c: The server's scores, float32 [classes], not normalised; None: it was not the server's.
        labels: The bundle's.
    """
    probabilities = None
    if scores_c is not None:
        powers = [math.exp(score - float(scores_c.max())) for score in scores_c.tolist()]
        total = math.fsum(powers)
        probabilities = tuple(power / total for power in powers)
    return Result(
        frame=event.frame,
        captured_unix_s=time.time() - (time.monotonic() - event.captured_s),
        outcome=event.outcome,
        answer=event.answer,
        label=None if event.answer is None else labels[event.answer],
        probabilities=probabilities,
        latency_s=event.latency_s,
        point=event.point,
        payload_bytes=event.payload_bytes,
        truth=event.truth,
        reason=event.reason,
    )


class ResultSink(Protocol):
    """Takes results one after the other, on a thread of its own; may be slow."""

    def put(self, result: Result) -> None:
        """Take one result.

        Raises:
            OSError: If it cannot be handed on.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class Outbox:
    """The queue in front of a sink, and the thread behind it.

    Args:
        sink: Where results go.
        note: Takes one line when results are lost, the first time; called on any thread.
        limit: Most results that wait.
    """

    def __init__(self, sink: ResultSink, *, note: Callable[[str], None], limit: int = _MOST_WAITING) -> None:
        self._sink = sink
        self._note = note
        self._waiting: queue.Queue[Result | None] = queue.Queue(limit)
        self._said = False
        self.lost = 0
        self._thread = threading.Thread(target=self._work, name="results", daemon=True)
        self._thread.start()

    def put(self, result: Result) -> None:
        """Queue one result; never waits."""
        try:
            self._waiting.put_nowait(result)
        except queue.Full:
            self._lose("they are taken too slowly")

    def close(self) -> None:
        """Hand out what waits, as far as that takes no longer than two seconds."""
        end_s = time.monotonic() + _CLOSE_S
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_CLOSE_S)
        self._thread.join(max(0.0, end_s - time.monotonic()))
        if self._thread.is_alive():
            # The one that the sink has not given back, and those behind it.
            self._lose("they are taken too slowly", 1 + self._left())
            self._waiting.put(None)

    def _work(self) -> None:
        try:
            while (result := self._waiting.get()) is not None:
                try:
                    self._sink.put(result)
                except OSError as error:
                    self._lose(error.strerror or str(error))
        finally:
            self._sink.close()

    def _left(self) -> int:
        """Take out what still waits, and return how many results it was."""
        count = 0
        with contextlib.suppress(queue.Empty):
            while True:
                count += self._waiting.get_nowait() is not None
        return count

    def _lose(self, why: str, count: int = 1) -> None:
        self.lost += count
        if not self._said:
            self._said = True
            self._note(f"results are being lost: {why}; the run goes on without them")


class LineSink:
    """Writes each result as one JSON line.

    Args:
        target: A file, whose content is lost; or "-", standard output.

    Raises:
        ArtifactError: If it cannot be opened.
    """

    def __init__(self, target: str) -> None:
        self._encoder = msgspec.json.Encoder()
        self._owned = target != "-"
        try:
            self._descriptor = (
                os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                if self._owned
                else sys.stdout.fileno()
            )
        except OSError as error:
            raise ArtifactError(
                f"{target}: {error.strerror or error}; choose another --results file"
            ) from None

    def put(self, result: Result) -> None:
        """Write one line, whole unless the disk is full."""
        line = self._encoder.encode(result) + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]

    def close(self) -> None:
        """Close the file."""
        if self._owned:
            os.close(self._descriptor)


def open_sink(target: str) -> ResultSink:
    """Open where results go: "-", mqtt://HOST:PORT/TOPIC, or a file.

    Raises:
        ArtifactError: If the file cannot be opened.
        InputError: If the address is none.
        MissingExtraError: If MQTT is asked for and its library is not installed.
    """
    if target.startswith("mqtt:"):
        from isthmus.device_agents.delivery.mqtt import MqttSink

        return MqttSink(target)
    if "://" in target:
        raise InputError(f"results {target!r}: give -, a file, or mqtt://HOST:PORT/TOPIC")
    return LineSink(target)


class Handout:
    """Hands the results of one run to everyone who wants them; makes none if nobody does.

    Args:
        labels: The bundle's.
        target: What `open_sink` takes; None: nothing is written.
        callback: Called with every result; None: nobody.
        note: See `Outbox`.

    Raises:
        See `open_sink`.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        target: str | None,
        callback: Callable[[Result], None] | None,
        note: Callable[[str], None],
    ) -> None:
        self._labels = labels
        self._outbox = None if target is None else Outbox(open_sink(target), note=note)
        self._callback = callback

    @property
    def lost(self) -> int:
        """Results that could not be written."""
        return 0 if self._outbox is None else self._outbox.lost

    def give(self, event: FrameEvent, scores_c: NDArray[np.float32] | None) -> None:
        """Hand out the result of a frame that has just ended; see `make_result`."""
        if self._outbox is None and self._callback is None:
            return
        result = make_result(event, scores_c, self._labels)
        if self._outbox is not None:
            self._outbox.put(result)
        if self._callback is not None:
            self._callback(result)

    def close(self) -> None:
        """Write what waits; see `Outbox.close`."""
        if self._outbox is not None:
            self._outbox.close()
