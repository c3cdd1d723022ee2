"""Accuracy against bytes: what the operating points are worth, and where the run spent its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isthmus.report.breakdown import PointUse
from isthmus.report.labels import percent, width_text
from isthmus.report.legends import Swatch
from isthmus.report.runlog import RunLog
from isthmus.report.summary import Summary
from isthmus.report.svg import FONT_PX, Canvas, Drawing, canvas, name_panel
from isthmus.report.theme import WIDTH_MARKS, light, width_colour
from isthmus.runtime.bundle import OperatingPoint, PointTable
from isthmus.runtime.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_GAP_PX = 14.0
_ENOUGH_TICKS = 4
_RING_PX = (4.0, 15.0)  # radius of the rings of the least and the most used point


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spot:
    """An operating point in the plane."""

    point: OperatingPoint
    payload_bytes: float
    accuracy: float


def draw_tradeoff(log: RunLog, summary: Summary, *, key: str) -> Drawing | None:
    """Return accuracy against bytes: from the bundle's table, else from the run's own frames, else None."""
    spots = _measured(log.table) if log.table else _observed(summary.points)
    if not spots:
        return None
    source = (
        f"Measured on {log.table.measured_on}"
        if log.table
        else "Observed in this run (no bundle): accuracy of the frames the server answered"
    )
    alt = _alt(spots, log, summary)
    indices = sorted({spot.point.width_index for spot in spots})
    entries = [
        Swatch(
            WIDTH_MARKS[i % len(WIDTH_MARKS)],
            width_colour(i, max(len(log.widths), i + 1)),
            f"width {width_text(i, log.widths)}",
        )
        for i in indices
    ]
    most = max((use.sent for use in summary.points), default=0)
    if most:
        entries.append(Swatch("ring", "ink", f"sent in this run; area by frames, largest {most}"))
    return Drawing(
        key=key,
        title="Accuracy against bytes",
        caption=f"{source}. One curve per width, one mark per number of channels; payload headers included.",
        alt=alt,
        paint=lambda width_px: _paint(spots, log, summary, width_px),
        legend=tuple(entries),
    )


def _measured(table: PointTable) -> list[_Spot]:
    return [_Spot(point=r.point, payload_bytes=r.bytes_mean, accuracy=r.utility) for r in table.records]


def _observed(uses: Sequence[PointUse]) -> list[_Spot]:
    return [
        _Spot(point=use.point, payload_bytes=use.payload_bytes_mean, accuracy=use.accuracy.value)
        for use in uses
        if use.point is not None and use.payload_bytes_mean is not None and use.accuracy is not None
    ]


def _paint(spots: list[_Spot], log: RunLog, summary: Summary, width_px: float) -> Canvas:
    right_px = 104 if width_px < 500 else 150
    painted = canvas(width_px, (300,), left_px=58, right_px=right_px)
    panel = painted.panels[0]
    name_panel(painted, panel, "accuracy")
    panel.set_xscale("log")
    _paint_curves(panel, spots, len(log.widths))
    _paint_rings(panel, spots, summary)
    lines = _reference_lines(log)
    levels = [spot.accuracy for spot in spots] + [level for _, level, _ in lines]
    low, high = min(levels), max(levels)
    pad = max(0.08 * (high - low), 0.004)
    panel.set_ylim(low - pad, min(high + pad, 1.0 + pad / 2))
    sizes = [spot.payload_bytes for spot in spots]
    panel.set_xlim(min(sizes) / 1.25, max(sizes) * 1.25)
    _label_lines(panel, lines, height_px=300.0)
    _label_axes(panel, width_px=width_px - 58 - right_px)
    return painted


def _paint_curves(panel: Axes, spots: list[_Spot], widths: int) -> None:
    for index in sorted({spot.point.width_index for spot in spots}):
        curve = sorted((s for s in spots if s.point.width_index == index), key=lambda s: s.payload_bytes)
        panel.plot(
            [s.payload_bytes for s in curve], [s.accuracy for s in curve],
            color=light(width_colour(index, max(widths, index + 1))),
            marker=WIDTH_MARKS[index % len(WIDTH_MARKS)], markersize=5.5, linewidth=1.6, markeredgewidth=0,
        )  # fmt: skip


def _paint_rings(panel: Axes, spots: list[_Spot], summary: Summary) -> None:
    sent = {use.point: use.sent for use in summary.points if use.sent}
    most = max(sent.values(), default=0)
    for spot in spots:
        if spot.point not in sent:
            continue
        # Area, not radius, stands for the count: that is how people read a disc.
        radius_px = max(_RING_PX[0], _RING_PX[1] * float(np.sqrt(sent[spot.point] / most)))
        panel.plot(
            spot.payload_bytes, spot.accuracy, color=light("ink"), linestyle="none", marker="o",
            markersize=2 * radius_px, markerfacecolor="none",
            markeredgecolor=light("ink"), markeredgewidth=1.3, clip_on=False, zorder=4,
        )  # fmt: skip


def _reference_lines(log: RunLog) -> list[tuple[str, float, str]]:
    """Return (label, accuracy, colour name) of what needs no payload: teacher, best exit, local network."""
    lines: list[tuple[str, float, str]] = []
    teacher = log.table.teacher_utility if log.table else log.run.teacher_utility if log.run else None
    if teacher is not None:
        lines.append(("teacher", teacher, "ink"))
    if log.table and log.table.local:
        lines.append(("local", log.table.local.utility, "local"))
    for answer in log.table.exits if log.table else ():
        width = "" if answer.width_index is None else f" {width_text(answer.width_index, log.widths)}"
        lines.append((f"exit{width}", answer.utility, "exit"))
    return lines


def _label_lines(panel: Axes, lines: list[tuple[str, float, str]], *, height_px: float) -> None:
    low, high = panel.get_ylim()
    places_px = spread([(level - low) / (high - low) * height_px for _, level, _ in lines], gap=_LABEL_GAP_PX)
    for (label, level, colour), place_px in zip(lines, places_px, strict=True):
        dashes = {"ink": (0, (6, 3)), "local": (0, (3, 2, 1, 2)), "exit": (0, (1.5, 2.5))}[colour]
        panel.axhline(level, color=light(colour), linestyle=dashes, linewidth=1.3, zorder=1.5)
        panel.text(
            1.012, place_px / height_px, f"{percent(level)}  {label}", transform=panel.transAxes, ha="left",
            va="center", fontsize=FONT_PX - 1, color=light("ink"),
        )  # fmt: skip


def spread(places: Sequence[float], *, gap: float) -> list[float]:
    """Return `places`, moved as little as needed for neighbours to be at least `gap` apart."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    # Blocks of touching labels, each centred where its labels want to be on average; blocks that touch merge.
    blocks: list[tuple[list[int], float]] = []
    for index in order:
        members, centre = [index], places[index]
        while blocks and blocks[-1][1] + gap * len(blocks[-1][0]) / 2 > centre - gap * len(members) / 2:
            members = blocks.pop()[0] + members
            centre = sum(places[i] for i in members) / len(members)
        blocks.append((members, centre))
    result = [0.0] * len(places)
    for members, centre in blocks:
        for rank, index in enumerate(members):
            result[index] = centre + gap * (rank - (len(members) - 1) / 2)
    return result


def round_ticks(low: float, high: float, *, width_px: float, gap_px: float = 42.0) -> list[float]:
    """Return round values for a logarithmic axis from `low` to `high`, at least `gap_px` apart."""
    px_per_decade = width_px / np.log10(high / low)
    chosen: list[float] = []
    for steps in ((1.0,), (2.0, 5.0), (3.0, 1.5, 7.0), (4.0, 6.0, 8.0)):
        if len(chosen) >= _ENOUGH_TICKS:
            break
        for tick in (step * 10.0**n for n in range(9) for step in steps):
            apart = all(abs(np.log10(tick / other)) * px_per_decade >= gap_px for other in chosen)
            if low <= tick <= high and apart:
                chosen.append(tick)
    return sorted(chosen)


def _label_axes(panel: Axes, *, width_px: float) -> None:
    ticks = round_ticks(*panel.get_xlim(), width_px=width_px)
    panel.set_xticks(ticks, labels=[format_bytes(tick) for tick in ticks])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("mean payload (bytes per frame, logarithmic)")
    shown = [tick for tick in panel.get_yticks() if panel.get_ylim()[0] <= tick <= panel.get_ylim()[1]]
    digits = 0 if len(shown) < 2 or shown[1] - shown[0] >= 0.0099 else 1
    panel.set_yticks(shown, labels=[percent(tick, digits) for tick in shown])


def _alt(spots: list[_Spot], log: RunLog, summary: Summary) -> str:
    best, smallest = max(spots, key=lambda s: s.accuracy), min(spots, key=lambda s: s.payload_bytes)
    teacher = next((level for label, level, _ in _reference_lines(log) if label == "teacher"), None)
    used = sum(1 for use in summary.points if use.sent)
    return (
        f"Accuracy against mean payload of {len(spots)} operating points: from "
        f"{percent(smallest.accuracy)} at {format_bytes(smallest.payload_bytes)} to at most "
        f"{percent(best.accuracy)} at {format_bytes(best.payload_bytes)}"
        + (f"; the uncut teacher reaches {percent(teacher)}." if teacher is not None else ".")
        + f" {used} of them were sent in this run."
    )
