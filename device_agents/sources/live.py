"""A camera: its newest frame wins, and when it goes away it is opened again.

Frames are grabbed as fast as they come, on a thread, because a driver's own queue would otherwise hand out
old ones. Knows no camera library: see `opencv`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.sources.source import NoNewFrame, SourceEnded
from isthmus.runtime.errors import InputError
from isthmus.runtime.session import FullJitter

Image = NDArray[np.uint8]
_FIRST_FRAME_S = 15.0
_CLOSE_S = 2.0


class Camera(Protocol):
    """A camera that is open."""

    def read(self) -> Image | None:
        """Wait for the next frame and return it, uint8 [height, width, 3] RGB; None if the camera is gone."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class LiveSource:
    """Gives the newest frame of a camera, each at most once.

    Args:
        name: What the event log calls it.
        open_camera: Opens the camera; None if it is not there.
        fit: Brings a frame to the bundle's input.
        backoff: Pauses between attempts to open it again.
        note: Told in one line when the camera is lost and when it is back; called on the camera's thread.
        first_frame_s: Seconds that opening it and the first frame may take together.

    Raises:
        InputError: If the camera gives no frame in that time.
    """

    def __init__(
        self,
        name: str,
        open_camera: Callable[[], Camera | None],
        fit: Callable[[Image], Image],
        *,
        backoff: FullJitter | None = None,
        note: Callable[[str], None] | None = None,
        first_frame_s: float = _FIRST_FRAME_S,
    ) -> None:
        self._name = name
        self._open_camera = open_camera
        self._fit = fit
        self._backoff = backoff or FullJitter(base_s=0.2, cap_s=5.0)
        self._note = note or (lambda text: None)
        self._newest: deque[Image] = deque(maxlen=1)
        self._failure: BaseException | None = None
        self._first = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._grab, name="camera", daemon=True)
        self._thread.start()
        came = self._first.wait(first_frame_s)
        if self._failure is not None:
            raise self._failure
        if not came:
            self.close()
            raise InputError(
                f"source {name}: no frame within {first_frame_s:g} s; check that the camera is there, that "
                "this user may open it, and that no other process has it"
            )

    @property
    def name(self) -> str:
        """What the event log calls it."""
        return self._name

    def frame(self) -> tuple[Image, int | None]:
        """Return the newest frame; its class is unknown.

        Raises:
            NoNewFrame: If none has come since the last call.
            SourceEnded: After `close`.
        """
        if self._failure is not None:
            raise self._failure
        if self._closed.is_set():
            raise SourceEnded
        try:
            return self._newest.pop(), None
        except IndexError:
            raise NoNewFrame from None

    def close(self) -> None:
        """Let go of the camera; a driver that is stuck in a read is left to its thread."""
        self._closed.set()
        self._thread.join(_CLOSE_S)

    def _grab(self) -> None:
        away = False
        try:
            while not self._closed.is_set():
                camera = self._open_camera()
                gave = camera is not None and self._follow(camera, back=away)
                if gave:
                    self._backoff.reset()
                if self._closed.is_set():
                    return
                if self._first.is_set() and (gave or not away):
                    self._note(f"{self._name}: the camera is gone; opening it again until it is back")
                    away = True
                self._closed.wait(self._backoff.next_s())
        except Exception as error:  # a frame of an impossible shape, a library that is not installed
            self._failure = error
            self._first.set()

    def _follow(self, camera: Camera, *, back: bool) -> bool:
        """Take frames until there are no more; say whether there was one."""
        gave = False
        try:
            while not self._closed.is_set():
                image = camera.read()
                if image is None:
                    break
                self._newest.append(self._fit(image))
                if back and not gave:
                    self._note(f"{self._name}: the camera is back")
                gave = True
                self._first.set()
        finally:
            camera.close()
        return gave
