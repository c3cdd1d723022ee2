"""What it costs later frames that the link is still busy with this one.

Pure arithmetic. The link's time is what frames share. If a link of r bytes/s has nothing else to do, a frame
every D seconds may have r·D bytes, and is then worth V(r·D), where V is the upper concave hull of the
operating points' utilities over their bytes, from the device's own answer at 0 bytes. A point that keeps the
link busy for y seconds into the next frame's time takes y seconds from the frames to come. They share the
loss, for as many frames, M, as a backlog can last, so it costs

    M · (V(r·D) − V(r·(D − y/M)))

Nothing if the link is free by then; the utility of a byte at this rate if y is small; all that the link can
add to M frames if it is long. A price in proportion to y alone, whatever the rate, cost 1.1 points of regret
more on the tuning traces of `isthmus bench adaptation`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class LinkTime:
    """The price of the link's time, for one set of points."""

    def __init__(self, wire_bytes: Sequence[float], utility: Sequence[float], own_utility: float) -> None:
        """Build the hull.

        Args:
            wire_bytes: Per operating point, overhead included.
            utility: Per operating point.
            own_utility: What the device's own answer is worth.
        """
        self._wire_bytes = np.array(wire_bytes)
        hull = [(0.0, own_utility)]
        for point in sorted(zip(wire_bytes, utility, strict=True)):
            if point[1] <= hull[-1][1]:
                continue
            while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
                hull.pop()
            hull.append(point)
        self._hull_bytes = np.array([nbytes for nbytes, _ in hull])
        self._hull_utility = np.array([worth for _, worth in hull])

    def price(
        self,
        rates: Floats,
        ready_s: Floats,
        *,
        queued_bytes: float,
        serving_s: float,
        interval_s: float,
        frames: float,
    ) -> Floats:
        """Return per operating point the expected utility that later frames lose.

        Args:
            rates: Equally likely bytes per second.
            ready_s: Per operating point, seconds until its payload is there.
            queued_bytes: Bytes in front of it that the link has been at for `serving_s`.
            serving_s: Seconds.
            interval_s: Seconds from frame to frame.
            frames: How many frames share the loss, M ≥ 1.
        """
        seconds_per_byte = 1.0 / rates[:, None]
        busy_s = self._wire_bytes * seconds_per_byte
        if queued_bytes > 0:
            behind_s = busy_s + (queued_bytes * seconds_per_byte - serving_s) - ready_s
            np.maximum(busy_s, behind_s, out=busy_s)
        left_s = interval_s - np.maximum(busy_s - interval_s, 0.0) / frames
        # Below the first byte V stays what the device's own answer is worth.
        rest = np.interp(left_s * rates[:, None], self._hull_bytes, self._hull_utility)
        whole = np.interp(rates * interval_s, self._hull_bytes, self._hull_utility)
        lost: Floats = frames * (whole.mean() - rest.mean(axis=0))
        return lost


def _slope(left: tuple[float, float], right: tuple[float, float]) -> float:
    return (right[1] - left[1]) / (right[0] - left[0]) if right[0] > left[0] else float("inf")
