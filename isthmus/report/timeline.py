"""The timeline of a run: link rate, operating point, latency and outcomes over one time axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isthmus.report.connectivity import Interval
from isthmus.report.frames import Frames
from isthmus.report.labels import points_by_size, short_point
from isthmus.report.legends import outcome_legend, swatch, swatch_list
from isthmus.report.load import RunLog
from isthmus.report.summary import Summary, find_gaps
from isthmus.report.svg import Canvas, Drawing, canvas, draw, name_panel
from isthmus.report.theme import OUTCOME_MARKS, light
from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.events import OUTCOMES
from isthmus.runtime.units import format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More marks than this are drawn as an image inside the SVG: the file stays small and browsers stay quick.
VECTOR_MARKS = 3_000
_ROW_PX = 15.0
_MAX_ROWS_LABELLED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """What all panels share: the run's zero, its end and the stretches without a link."""

    start_s: float
    duration_s: float
    gaps: tuple[Interval, ...]

    def since(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return at_s - self.start_s


def draw_timeline(log: RunLog, summary: Summary, *, key: str) -> Drawing:
    """Return the timeline of the run in `log`; `key` is unique in the page."""
    end_s = summary.start_s + summary.duration_s
    axis = _Axis(
        start_s=summary.start_s,
        duration_s=max(summary.duration_s, 1e-3),
        gaps=find_gaps(log, start_s=summary.start_s, end_s=end_s),
    )
    alt = _alt(log, summary)
    wide, narrow = draw(key, alt, lambda width_px: _paint(log, summary, axis, width_px))
    present = [name for name, count in summary.accounting.outcomes.items() if count]
    lines = []
    if log.shapes:
        lines.append(swatch("line", "ink", "true rate of the emulated link"))
    if any(link.rate_bytes_per_s is not None for link in log.links):
        lines.append(swatch("dots", "estimate", "rate as the agent estimates it"))
    if any(gap.kind == "outage" for gap in axis.gaps):
        lines.append(swatch("block", "outage", "outage: true rate 0"))
    if any(gap.kind == "disconnected" for gap in axis.gaps):
        lines.append(swatch("hatch", "late", "no connection to the server"))
    if summary.deadline_s is not None:
        lines.append(swatch("dash", "deadline", f"deadline, {format_duration(summary.deadline_s)}"))
    return Drawing(
        key=key,
        title="Timeline",
        caption="Every captured frame, at the time of its capture. An operating point is the width of the "
        "encoder and the latent channels sent; a frame shows at the point it was computed for, however it "
        "ended.",
        alt=alt,
        wide=wide,
        narrow=narrow,
        legend=outcome_legend(present) + swatch_list(lines),
    )


def _paint(log: RunLog, summary: Summary, axis: _Axis, width_px: float) -> Canvas:
    rows = points_by_size(log)
    height_px = max(60.0, _ROW_PX * min(len(rows) + 1, 24))
    painted = canvas(width_px, (130, height_px, 150, 70), left_px=78 if width_px < 500 else 96)
    many = len(log.frames) > VECTOR_MARKS
    for panel in painted.panels:
        _shade(panel, axis)
    _paint_rate(painted, log, axis)
    _paint_points(painted, log, axis, rows, raster=many)
    _paint_latency(painted, log.frames, axis, summary.deadline_s, raster=many)
    _paint_outcomes(painted, log.frames, axis)
    painted.panels[-1].set_xlim(0, axis.duration_s)
    painted.panels[-1].set_xlabel("seconds since the start of the run")
    return painted


def _shade(panel: Axes, axis: _Axis) -> None:
    for gap in axis.gaps:
        left, right = gap.start_s - axis.start_s, gap.end_s - axis.start_s
        if gap.kind == "outage":
            panel.axvspan(left, right, color=light("outage"), linewidth=0, zorder=0.2)
        else:
            panel.axvspan(
                left, right, facecolor="none", edgecolor=light("late"), hatch="////", linewidth=0,
                alpha=0.45, zorder=0.3,
            )  # fmt: skip


def _paint_rate(painted: Canvas, log: RunLog, axis: _Axis) -> None:
    panel = painted.panels[0]
    name_panel(painted, panel, "link rate (bytes per second, logarithmic)")
    true_s = np.array([shape.at_s for shape in log.shapes])
    true = np.array([shape.rate_bytes_per_s for shape in log.shapes])
    believed_s = np.array([link.at_s for link in log.links])
    # An unknown rate is NaN, which interrupts the line.
    believed = np.array([link.rate_bytes_per_s for link in log.links], dtype=np.float64)
    positive = np.concatenate([true[true > 0], believed[believed > 0]])
    if len(positive) == 0:
        panel.set_yticks([])
        panel.text(
            0.5, 0.5, "no rate was logged", transform=panel.transAxes, ha="center", color=light("soft")
        )
        return
    low = 10 ** np.floor(np.log10(positive.min()))
    high = positive.max() * 1.6
    # Zero needs a place on a logarithmic axis: below `low` the axis is linear.
    panel.set_yscale("symlog", linthresh=low, linscale=0.4)
    if len(true):
        ends = np.append(axis.since(true_s), max(axis.duration_s, float(axis.since(true_s)[-1])))
        panel.stairs(true, ends, baseline=None, color=light("ink"), linewidth=1.6)
    if len(believed):
        panel.plot(
            axis.since(believed_s),
            believed,
            color=light("estimate"),
            linewidth=1.0,
            marker="o",
            markersize=3.2,
        )
    decades = [10.0**n for n in range(round(np.log10(low)), int(np.log10(high)) + 1)]
    panel.set_yticks([0.0, *decades], labels=["0", *(format_rate(rate) for rate in decades)])
    panel.set_yticks([], minor=True)
    panel.set_ylim(-0.08 * low, high)


def _paint_points(
    painted: Canvas, log: RunLog, axis: _Axis, rows: list[OperatingPoint], *, raster: bool
) -> None:
    panel = painted.panels[1]
    name_panel(painted, panel, "operating point: width · channels", detail=" (largest payload on top)")
    frames = log.frames
    # A frame is drawn as long as the time to the next one, at most: neighbours of one kind merge into a bar.
    step_s = float(np.median(np.diff(frames.captured_s))) if len(frames) > 1 else axis.duration_s
    for row, point in enumerate([None, *rows]):
        for outcome in OUTCOMES:
            here = frames.at(point) & frames.ended_as(outcome)
            spans = merge_spans(axis.since(frames.captured_s[here]), step_s)
            if spans:
                panel.broken_barh(
                    spans, (row - 0.36, 0.72), facecolor=light(outcome), linewidth=0, rasterized=raster
                )
    every = -(-(len(rows) + 1) // _MAX_ROWS_LABELLED)
    labels = ["none"] + [short_point(point, log.widths) for point in rows]
    panel.set_yticks(range(0, len(labels), every), labels=labels[::every])
    panel.set_ylim(-0.7, len(rows) + 0.7)
    panel.grid(axis="x")


def merge_spans(at_s: NDArray[np.float64], step_s: float) -> list[tuple[float, float]]:
    """Return (start, length) of bars over the instants `at_s`; those within 1.5 `step_s` share one."""
    if len(at_s) == 0:
        return []
    breaks = np.flatnonzero(np.diff(at_s) > 1.5 * step_s)
    starts = at_s[np.concatenate([[0], breaks + 1])]
    ends = at_s[np.concatenate([breaks, [len(at_s) - 1]])] + step_s
    return [(float(start), float(end - start)) for start, end in zip(starts, ends, strict=True)]


def _paint_latency(
    painted: Canvas, frames: Frames, axis: _Axis, deadline_s: float | None, *, raster: bool
) -> None:
    panel = painted.panels[2]
    name_panel(painted, panel, "latency, capture to answer (ms)")
    known = frames.latency_s[~np.isnan(frames.latency_s)]
    top_s = max(
        float(np.percentile(known, 99.5)) * 1.15 if len(known) else 0.0,
        1.25 * deadline_s if deadline_s else 0.0,
        1e-3,
    )
    for outcome in OUTCOMES:
        here = frames.ended_as(outcome) & ~np.isnan(frames.latency_s)
        if not bool(here.any()):
            continue
        # A few far outliers would flatten all the rest: they stand at the upper edge.
        shown = np.minimum(frames.latency_s[here], top_s)
        panel.plot(
            axis.since(frames.captured_s[here]), 1e3 * shown, linestyle="none", marker=OUTCOME_MARKS[outcome],
            markersize=3.0 if outcome != "late" else 5.0, markeredgewidth=0, color=light(outcome), alpha=0.85,
            rasterized=raster, clip_on=False,
        )  # fmt: skip
    if deadline_s:
        panel.axhline(1e3 * deadline_s, color=light("deadline"), linestyle=(0, (5, 3)), linewidth=1.4)
    panel.set_ylim(0, 1e3 * top_s)


def _paint_outcomes(painted: Canvas, frames: Frames, axis: _Axis) -> None:
    panel = painted.panels[3]
    width_s = bin_width_s(axis.duration_s, bins=40 if painted.narrow else 90)
    name_panel(painted, panel, f"outcomes (share of frames per {format_duration(width_s)} of capture)")
    edges = np.arange(0, axis.duration_s + width_s, width_s)
    at_s = axis.since(frames.captured_s)
    total = np.maximum(np.histogram(at_s, edges)[0], 1)
    base = np.zeros(len(edges) - 1)
    for outcome in OUTCOMES:
        part = np.histogram(at_s[frames.ended_as(outcome)], edges)[0] / total
        drawn = part > 0
        panel.bar(
            edges[:-1][drawn], part[drawn], width=width_s * 0.92, bottom=base[drawn], align="edge",
            color=light(outcome), linewidth=0,
        )  # fmt: skip
        base += part
    panel.set_yticks([0, 0.5, 1], labels=["0", "50 %", "100 %"])
    panel.set_ylim(0, 1.02)


def bin_width_s(duration_s: float, *, bins: int) -> float:
    """Return a round width (1, 2 or 5 × 10ⁿ seconds) of which at most `bins` cover `duration_s`."""
    least = duration_s / bins
    decade = 10.0 ** np.floor(np.log10(least))
    return float(next(decade * step for step in (1, 2, 5, 10) if decade * step >= least * (1 - 1e-9)))


def _alt(log: RunLog, summary: Summary) -> str:
    parts = [f"Timeline over {format_duration(summary.duration_s)}."]
    if log.shapes:
        rates = [shape.rate_bytes_per_s for shape in log.shapes]
        parts.append(f"True link rate from {format_rate(min(rates))} to {format_rate(max(rates))}.")
    for gap in summary.interruptions:
        parts.append(
            f"{gap.kind.capitalize()} from {gap.start_s:.1f} s for {format_duration(gap.duration_s)}."
        )
    used = [use for use in summary.points if use.point is not None]
    if used:
        most = used[0]
        size = f", {format_bytes(most.payload_bytes_mean)} each" if most.payload_bytes_mean else ""
        assert most.point is not None
        name = short_point(most.point, log.widths)
        parts.append(f"{len(used)} operating points used, mostly {name} ({most.frames} frames{size}).")
    if summary.latency:
        parts.append(f"Median latency {format_duration(summary.latency.p50_s)}.")
    return " ".join(parts)
