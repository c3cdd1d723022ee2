"""The timeline of a run: link rate, operating point, latency, outcomes and power over one time axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.report.connectivity import Interval
from isthmus.report.labels import short_point
from isthmus.report.legends import Swatch, outcome_swatches
from isthmus.report.moments import (
    paint_bands,
    paint_marks,
    paint_outcomes,
    paint_point_columns,
    paint_point_spans,
)
from isthmus.report.runlog import RunLog
from isthmus.report.summary import Summary
from isthmus.report.svg import Canvas, Drawing, canvas, name_panel
from isthmus.report.theme import light
from isthmus.runtime.units import format_bytes, format_duration, format_rate

# Beyond so many of the longest interruptions the shades would be a blur.
_MOST_SHADES = 400
_MOST_RATES = 1_500
_ROW_PX = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAxis:
    """What all panels share: the run's zero, its end and the stretches without a link.

    `unit_s` is what the axis counts in: seconds, or minutes or hours for a long run.
    """

    start_s: float
    duration_s: float
    gaps: tuple[Interval, ...]
    unit_s: float
    unit: str

    def since(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return instants on the axis."""
        return (at_s - self.start_s) / self.unit_s

    @property
    def end(self) -> float:
        """Where the axis ends."""
        return self.duration_s / self.unit_s


def time_axis(log: RunLog) -> TimeAxis:
    """Return the axis of a run."""
    duration_s = max(log.duration_s, 1e-3)
    unit_s, unit = next(
        (size, name)
        for size, name, least in ((3600.0, "hours", 3), (60.0, "minutes", 10), (1.0, "seconds", 0))
        if duration_s >= least * size
    )
    longest = sorted(log.gaps, key=lambda gap: -gap.duration_s)[:_MOST_SHADES]
    return TimeAxis(start_s=log.start_s, duration_s=duration_s, gaps=tuple(longest), unit_s=unit_s, unit=unit)


def draw_timeline(log: RunLog, summary: Summary, *, key: str) -> Drawing:
    """Return the timeline of the run in `log`; `key` is unique in the page."""
    axis = time_axis(log)
    alt = _alt(log, summary)
    present = [name for name, count in summary.accounting.outcomes.items() if count]
    if log.complete:
        frames = "Every captured frame, at the time of its capture."
    else:
        frames = (
            "Too many frames for a mark each: stretches of time show the latency that half, nine tenths and "
            "99 % of their frames stayed below, and at each operating point the commonest outcome, paler "
            "where fewer frames were there."
        )
    return Drawing(
        key=key,
        title="Timeline",
        caption=f"{frames} An operating point is the width of the encoder and the latent channels sent; a "
        "frame shows at the point it was computed for, however it ended.",
        alt=alt,
        paint=lambda width_px: _paint(log, summary, axis, width_px),
        legend=(*outcome_swatches(present), *_line_swatches(log, summary)),
    )


def _line_swatches(log: RunLog, summary: Summary) -> list[Swatch]:
    lines = []
    if len(log.shapes):
        lines.append(Swatch("line", "ink", "true rate of the emulated link"))
    if not bool(np.isnan(log.links.rate_bytes_per_s).all()):
        lines.append(Swatch("dots", "estimate", "rate as the agent estimates it"))
    if any(gap.kind == "outage" for gap in log.gaps):
        lines.append(Swatch("block", "outage", "outage: true rate 0"))
    if any(gap.kind == "disconnected" for gap in log.gaps):
        lines.append(Swatch("hatch", "late", "no connection to the server"))
    if summary.deadline_s is not None:
        lines.append(Swatch("dash", "deadline", summary.deadline_label))
    if summary.deadline_changes:
        lines.append(Swatch("dotted", "deadline", "the deadline was changed"))
    if not log.complete:
        lines.append(Swatch("line", "ink", "median latency"))
        lines.append(Swatch("block", "band", "to 90 % and, paler, to 99 %"))
    return lines


def _paint(log: RunLog, summary: Summary, axis: TimeAxis, width_px: float) -> Canvas:
    rows = log.points_by_size()
    heights = [130.0, max(60.0, _ROW_PX * min(len(rows) + 1, 24)), 150.0, 70.0]
    power = summary.energy is not None and len(summary.energy.windows) > 1
    painted = canvas(width_px, (*heights, 70.0) if power else heights, left_px=78 if width_px < 500 else 96)
    _shade(painted, axis)
    _mark_changes(painted, summary, axis)
    _paint_rate(painted, log, axis)
    names = ["none"] + [short_point(point, log.widths) for _, point in rows]
    name_panel(
        painted, painted.panels[1], "operating point: width · channels", detail=" (largest payload on top)"
    )
    order = [0, *(index for index, _ in rows)]
    if log.complete:
        paint_point_spans(painted.panels[1], log, order, names, axis.since)
    else:
        paint_point_columns(painted.panels[1], log, order, names, axis.since, narrow=painted.narrow)
    name_panel(painted, painted.panels[2], "latency, capture to answer (ms)")
    if log.complete:
        paint_marks(painted.panels[2], log, axis.since)
    else:
        paint_bands(painted.panels[2], log, axis.since, narrow=painted.narrow)
    _paint_deadline(painted, log, axis)
    _paint_outcome_shares(painted, log, axis)
    if power:
        _paint_power(painted, summary, axis)
    painted.panels[-1].set_xlim(0, axis.end)
    painted.panels[-1].set_xlabel(f"{axis.unit} since the start of the run")
    return painted


def _shade(painted: Canvas, axis: TimeAxis) -> None:
    for panel in painted.panels:
        for gap in axis.gaps:
            left, right = axis.since(np.array([gap.start_s, gap.end_s]))
            if gap.kind == "outage":
                panel.axvspan(left, right, color=light("outage"), linewidth=0, zorder=0.2)
            else:
                panel.axvspan(
                    left, right, facecolor="none", edgecolor=light("late"), hatch="////", linewidth=0,
                    alpha=0.45, zorder=0.3,
                )  # fmt: skip


def _mark_changes(painted: Canvas, summary: Summary, axis: TimeAxis) -> None:
    """Draw every change of the deadline across all panels: what the policy chose changed with it."""
    for change in summary.deadline_changes[:_MOST_SHADES]:
        for panel in painted.panels:
            panel.axvline(
                change.at_s / axis.unit_s, color=light("deadline"), linestyle=":", linewidth=1.0, zorder=0.4
            )


def _paint_rate(painted: Canvas, log: RunLog, axis: TimeAxis) -> None:
    panel = painted.panels[0]
    name_panel(painted, panel, "link rate (bytes per second, logarithmic)")
    true_s, true = _thinned(log.shapes.at_s, log.shapes.rate_bytes_per_s)
    believed_s, believed = _thinned(log.links.at_s, log.links.rate_bytes_per_s)
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
        begins = axis.since(true_s)
        panel.stairs(
            true, np.append(begins, max(axis.end, float(begins[-1]))), baseline=None, color=light("ink"),
            linewidth=1.6 if log.complete else 1.0,
        )  # fmt: skip
    if len(believed):
        # An unknown rate is NaN, which interrupts the line.
        mark = "o" if len(believed) <= _MOST_RATES // 5 else ""
        panel.plot(
            axis.since(believed_s),
            believed,
            color=light("estimate"),
            linewidth=1.0,
            marker=mark,
            markersize=3.2,
        )
    decades = [10.0**n for n in range(round(np.log10(low)), int(np.log10(high)) + 1)]
    if len(decades) < 3:
        decades = [tick for ten in decades for tick in (ten, 2 * ten, 5 * ten) if tick <= high]
    panel.set_yticks([0.0, *decades], labels=["0", *(format_rate(rate) for rate in decades)])
    panel.set_yticks([], minor=True)
    panel.set_ylim(-0.08 * low, high)


def _thinned(
    at_s: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a long series by the least and greatest value of each stretch, so that no extreme is lost."""
    if len(values) <= _MOST_RATES:
        return at_s, values
    length = -(-len(values) // (_MOST_RATES // 2))
    starts = np.arange(0, len(values), length)
    known = np.isfinite(values)
    low = np.minimum.reduceat(np.where(known, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(known, values, -np.inf), starts)
    pairs = np.stack([low, high], axis=1).ravel()
    pairs[~np.isfinite(pairs)] = np.nan
    middles = np.minimum(starts + length // 2, len(values) - 1)
    return np.stack([at_s[starts], at_s[middles]], axis=1).ravel(), pairs


def _paint_deadline(painted: Canvas, log: RunLog, axis: TimeAxis) -> None:
    at_s, deadlines_s = log.deadline_steps()
    if len(at_s):
        edges = np.append(axis.since(at_s), max(axis.end, float(axis.since(at_s)[-1])))
        painted.panels[2].stairs(
            1e3 * deadlines_s, edges, baseline=None, color=light("deadline"), linestyle=(0, (5, 3)),
            linewidth=1.4,
        )  # fmt: skip


def _paint_outcome_shares(painted: Canvas, log: RunLog, axis: TimeAxis) -> None:
    width_s = bin_width_s(axis.duration_s, bins=40 if painted.narrow else 90)
    # A bar holds whole buckets of the tally, or none.
    width_s = max(width_s, log.tally.moments.width_s)
    name_panel(
        painted, painted.panels[3], f"outcomes (share of frames per {format_duration(width_s)} of capture)"
    )
    paint_outcomes(painted.panels[3], log, width_s, axis.since, axis.unit_s)


def _paint_power(painted: Canvas, summary: Summary, axis: TimeAxis) -> None:
    assert summary.energy is not None, "there is a panel for it"
    panel, windows = painted.panels[4], summary.energy.windows
    how = "measured" if summary.energy.measured else "modelled"
    name_panel(painted, panel, f"power (W, {how})", detail=f" by {summary.energy.source}")
    edges_s = np.array([windows[0].start_s, *(window.end_s for window in windows)])
    watts = np.array([window.power_w for window in windows])
    panel.stairs(watts, edges_s / axis.unit_s, baseline=None, color=light("ink"), linewidth=1.6)
    if summary.energy.idle_j is not None:
        panel.axhline(
            summary.energy.idle_j / summary.energy.seconds, color=light("idle"), linewidth=1.6, linestyle="-."
        )
    panel.set_ylim(0, float(watts.max()) * 1.15 or 1.0)


def bin_width_s(duration_s: float, *, bins: int) -> float:
    """Return a round width (1, 2 or 5 × 10ⁿ seconds) of which at most `bins` cover `duration_s`."""
    least = duration_s / bins
    decade = 10.0 ** np.floor(np.log10(least))
    return float(next(decade * step for step in (1, 2, 5, 10) if decade * step >= least * (1 - 1e-9)))


def _alt(log: RunLog, summary: Summary) -> str:
    parts = [f"Timeline over {format_duration(summary.duration_s)}."]
    if len(log.shapes):
        rates = log.shapes.rate_bytes_per_s
        parts.append(f"True link rate from {format_rate(rates.min())} to {format_rate(rates.max())}.")
    parts += [
        f"{gap.kind.capitalize()} from {gap.start_s:.1f} s for {format_duration(gap.duration_s)}."
        for gap in summary.interruptions[:5]
    ]
    if len(summary.interruptions) > 5:
        parts.append(f"{len(summary.interruptions) - 5} more interruptions.")
    parts += [
        f"Deadline changed to {format_duration(change.deadline_s)} at {change.at_s:.1f} s."
        for change in summary.deadline_changes[:5]
    ]
    if len(summary.deadline_changes) > 5:
        parts.append(f"{len(summary.deadline_changes) - 5} more changes of the deadline.")
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
