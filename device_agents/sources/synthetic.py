"""A moving pattern: frames for a device that has neither camera nor files.

The same on every machine (its numbers come from numpy's frozen generator), different from frame to frame,
and costs one copy: the pattern is drawn once and frames are windows that walk over it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.sources.source import fit
from isthmus.runtime.bundle import InputSpec

_SEED = 20_231
_WAVES = 12
_NOISE = 10.0
# Pixels a frame, to the right and down; their ratio keeps the walk from repeating soon.
_STEP_X, _STEP_Y = 3, 2


class SyntheticSource:
    """Walks over a pattern for ever.

    Args:
        needed: The bundle's input.
        size: Height and width of the frames before they are fitted to the bundle; None: the bundle's own.
    """

    def __init__(self, needed: InputSpec, size: tuple[int, int] | None = None) -> None:
        self._needed = needed
        self._size = size or (needed.height, needed.width)
        self._side = max(*self._size, 16)
        self._pattern = np.tile(_pattern(self._side, needed.channels), (2, 2, 1))
        self._count = 0

    @property
    def name(self) -> str:
        """What the event log calls it."""
        height, width = self._size
        return f"synthetic:{height}x{width}"

    def frame(self) -> tuple[NDArray[np.uint8], int | None]:
        """Return the next window; it shows nothing, so its class is unknown."""
        top, left = self._count * _STEP_Y % self._side, self._count * _STEP_X % self._side
        self._count += 1
        height, width = self._size
        window = self._pattern[top : top + height, left : left + width]
        if self._size == (self._needed.height, self._needed.width):
            return np.ascontiguousarray(window), None
        return fit(window, self._needed), None

    def close(self) -> None:
        """Do nothing: it holds memory alone."""


def _pattern(side: int, channels: int) -> NDArray[np.uint8]:
    """Return uint8 [side, side, channels] that continues itself at its edges."""
    random = np.random.RandomState(_SEED)
    y, x = np.mgrid[:side, :side] * (2.0 * np.pi / side)
    drawn = np.zeros((side, side, channels))
    for _ in range(_WAVES):
        across, down = random.randint(-6, 7, 2)
        phase = random.uniform(0.0, 2.0 * np.pi, channels)
        drawn += np.cos((across * x + down * y)[..., np.newaxis] + phase)
    drawn = 127.5 + drawn * (127.5 / np.abs(drawn).max()) + random.normal(0.0, _NOISE, drawn.shape)
    pattern: NDArray[np.uint8] = np.clip(np.rint(drawn), 0, 255).astype(np.uint8)
    return pattern
