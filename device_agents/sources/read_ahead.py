"""Frames that have to be read and decoded one after the other, a few ahead of the run.

Every frame is given, in its order: what the capture clock finds not yet decoded it finds at the next tick.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.sources.source import NoNewFrame, SourceEnded
from isthmus.runtime.errors import InputError

Item = tuple[NDArray[np.uint8], "int | None"]
_AHEAD = 8
_CLOSE_S = 2.0


class ReadAhead:
    """Reads frames on a thread into a short queue.

    Args:
        name: What the event log calls it.
        once: Returns the frames of one pass; called again for each further one.
        loop: Whether the first frame comes again after the last.

    Raises:
        IsthmusError: What the first frame raises, for then there is no source.
    """

    def __init__(self, name: str, once: Callable[[], Iterator[Item]], *, loop: bool) -> None:
        self._name = name
        self._once = once
        self._loop = loop
        self._ready: queue.Queue[Item | BaseException] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._end: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="source", daemon=True)
        self._thread.start()
        # The run must not begin with ticks that find nothing, nor with a file that cannot be read.
        first = self._ready.get()
        if isinstance(first, BaseException):
            raise (
                InputError(f"source {name}: holds no frame; give another")
                if isinstance(first, SourceEnded)
                else first
            )
        self._first: Item | None = first

    @property
    def name(self) -> str:
        """What the event log calls it."""
        return self._name

    def frame(self) -> Item:
        """Return the next frame and its class index.

        Raises:
            NoNewFrame: If it is not decoded yet.
            SourceEnded: After the last frame, unless the source loops.
            IsthmusError: If it cannot be read.
        """
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._end is None:
            try:
                item = self._ready.get_nowait()
            except queue.Empty:
                raise NoNewFrame from None
            if not isinstance(item, BaseException):
                return item
            self._end = item
        raise self._end

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        self._end = self._end or SourceEnded()
        self._thread.join(_CLOSE_S)

    def _read(self) -> None:
        end: BaseException = SourceEnded()
        try:
            while True:
                count = 0
                for item in self._once():
                    count += 1
                    if not self._put(item):
                        return
                if not self._loop or count == 0:
                    break
        except Exception as error:  # whatever a decoder raises is the run's to hear, not this thread's
            end = error
        self._put(end)

    def _put(self, item: Item | BaseException) -> bool:
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
