"""How a report names things: operating points, shares, points of accuracy. Pure text."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.report.statistics import Share
from isthmus.runtime.bundle import OperatingPoint


def width_text(width_index: int, widths: Sequence[float]) -> str:
    """Return the compute fraction of a width index, e.g. `0.25`; `#2` if it is unknown."""
    return f"{widths[width_index]:g}" if width_index < len(widths) else f"#{width_index}"


def short_point(point: OperatingPoint, widths: Sequence[float]) -> str:
    """Return an operating point for an axis, e.g. `0.25 · 8 ch`."""
    return f"{width_text(point.width_index, widths)} · {point.channels} ch"


def count(number: int) -> str:
    """Return a count, in groups of three digits from 10,000 on."""
    return f"{number:,}" if number >= 10_000 else str(number)


def percent(value: float, digits: int = 1) -> str:
    """Return a fraction in percent, e.g. `97.3 %`."""
    return f"{100 * value:.{digits}f}\u00a0%"  # never broken across lines


def interval(share: Share) -> str:
    """Return a share's counts and 95 % interval, e.g. `657 of 675 (95 %: 95.8 to 98.3)`."""
    bounds = f"{100 * share.low:.1f} to {100 * share.high:.1f}"
    return f"{count(share.count)} of {count(share.total)} (95\u00a0%: {bounds})"


def accuracy_points(difference: float) -> str:
    """Return a difference of accuracies in points, with its sign, e.g. `−0.4 points`."""
    value = round(100 * difference, 1)
    sign = "−" if value < 0 else "+" if value > 0 else "±"
    return f"{sign}{abs(value):.1f} points"
