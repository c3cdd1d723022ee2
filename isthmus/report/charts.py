"""The distribution of latencies and where the time of a frame goes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.report.breakdown import STAGES, Stages
from isthmus.report.frames import Frames
from isthmus.report.labels import percent
from isthmus.report.legends import swatch, swatch_list
from isthmus.report.load import RunLog
from isthmus.report.summary import Summary
from isthmus.report.svg import FONT_PX, Canvas, Drawing, canvas, draw, name_panel
from isthmus.report.theme import OUTCOME_LINES, light
from isthmus.runtime.units import format_duration

STAGE_WORDS = {
    "head": "head: network on the device",
    "encode": "encode: latent to payload",
    "network": "network: both directions",
    "queue": "queue: waiting on the server",
    "compute": "compute: decoding and tail on the server",
    "rest": "rest: waiting on the device; for its own answers also their computation",
}
_SWATCH_OF_LINE = {"-": "line", "--": "dash", "-.": "dashdot", ":": "dotted"}
_MAX_ROWS = 14
_CURVE_STEPS = 400


def draw_latency(log: RunLog, summary: Summary, *, key: str) -> Drawing | None:
    """Return the distribution of latencies, overall and by outcome; None if no frame was answered."""
    if summary.latency is None:
        return None
    latency, deadline_s = summary.latency, summary.deadline_s
    alt = (
        f"Cumulative distribution of latency over {latency.count} answered frames: half within "
        f"{format_duration(latency.p50_s)}, 90 % within {format_duration(latency.p90_s)}, 99 % within "
        f"{format_duration(latency.p99_s)}"
        + (f"; the deadline is {format_duration(deadline_s)}." if deadline_s else ".")
    )
    wide, narrow = draw(key, alt, lambda width_px: _paint_latency(log.frames, summary, width_px))
    entries = [swatch("line", "ink", "all answered frames")]
    entries += [
        swatch(_SWATCH_OF_LINE[OUTCOME_LINES[name]], name, f"{name} ({durations.count})")
        for name, durations in summary.latency_by_outcome.items()
    ]
    if deadline_s:
        entries.append(swatch("dash", "deadline", f"deadline, {format_duration(deadline_s)}"))
    return Drawing(
        key=key,
        title="Latency distribution",
        caption="Share of frames answered within a time after their capture; each curve counts the frames of "
        "its own outcome.",
        alt=alt,
        wide=wide,
        narrow=narrow,
        legend=swatch_list(entries),
    )


def _paint_latency(frames: Frames, summary: Summary, width_px: float) -> Canvas:
    assert summary.latency is not None
    painted = canvas(width_px, (230,), left_px=58)
    panel = painted.panels[0]
    name_panel(painted, panel, "share of frames answered within")
    deadline_s = summary.deadline_s or 0.0
    known = frames.latency_s[~np.isnan(frames.latency_s)]
    right_s = max(1.2 * deadline_s, 1.1 * float(np.percentile(known, 99.5)))
    for name in summary.latency_by_outcome:
        of_outcome = frames.latency_s[frames.ended_as(name)]
        x_s, y = cumulative(of_outcome[~np.isnan(of_outcome)])
        panel.plot(
            1e3 * x_s,
            y,
            color=light(name),
            linestyle=OUTCOME_LINES[name],
            drawstyle="steps-post",
            linewidth=1.8,
        )
    x_s, y = cumulative(known)
    x_s, y = np.append(x_s, max(right_s, float(x_s[-1]))), np.append(y, 1.0)
    panel.plot(1e3 * x_s, y, color=light("ink"), drawstyle="steps-post", linewidth=2.4)
    if deadline_s:
        panel.axvline(1e3 * deadline_s, color=light("deadline"), linestyle=(0, (5, 3)), linewidth=1.4)
    panel.set_xlim(0, 1e3 * right_s)
    panel.set_ylim(0, 1.03)
    panel.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1.0], labels=["0", "25 %", "50 %", "75 %", "90 %", "100 %"])
    panel.set_xlabel("latency, capture to answer (ms)")
    return painted


def cumulative(values_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of the share of `values_s` that is at most x, in a few hundred steps."""
    ordered = np.sort(values_s)
    picked = np.unique(
        np.linspace(0, len(ordered) - 1, min(len(ordered), _CURVE_STEPS)).round().astype(np.int64)
    )
    x_s = np.concatenate([ordered[:1], ordered[picked]])
    y = np.concatenate([[0.0], (picked + 1) / len(ordered)])
    return x_s, y


def draw_breakdown(log: RunLog, summary: Summary, *, key: str) -> Drawing | None:
    """Return the mean stages of a frame by outcome and operating point; None if no frame was answered."""
    rows = shown_rows(summary.stages)
    if not rows:
        return None
    alt = "Mean time of a frame by stage. " + " ".join(
        f"{row.label(log.widths)}: {format_duration(row.total_s)}, of it "
        + ", ".join(
            f"{name} {percent(row.mean_s[name] / row.total_s, 0)}" for name in STAGES if row.mean_s[name] > 0
        )
        + "."
        for row in rows[:3]
        if row.total_s > 0
    )
    wide, narrow = draw(key, alt, lambda width_px: _paint_breakdown(rows, log, summary, width_px))
    left_out = len(summary.stages) - len(rows)
    tail = f" The {left_out} rows with the fewest frames are left out here." if left_out else ""
    return Drawing(
        key=key,
        title="Where the time of a frame goes",
        caption="Mean over the frames of a row; the stages of a row add up to its mean latency." + tail,
        alt=alt,
        wide=wide,
        narrow=narrow,
        legend=swatch_list([swatch("block", name, STAGE_WORDS[name]) for name in STAGES]),
    )


def shown_rows(stages: tuple[Stages, ...]) -> list[Stages]:
    """Return the rows a chart has room for: those with the most frames, in their order."""
    most = sorted(range(len(stages)), key=lambda i: (stages[i].point is not None, -stages[i].frames))[
        :_MAX_ROWS
    ]
    return [stages[i] for i in sorted(most)]


def _paint_breakdown(rows: list[Stages], log: RunLog, summary: Summary, width_px: float) -> Canvas:
    painted = canvas(
        width_px, (24.0 * len(rows) + 8,), left_px=88 if width_px < 500 else 104, right_px=64, top_px=8
    )
    panel = painted.panels[0]
    # Late frames may take seconds: they must not squeeze the others, so their bar leaves the picture.
    in_time_s = max((row.total_s for row in rows if row.outcome != "late"), default=0.0)
    edge_s = in_time_s or max(row.total_s for row in rows)
    for index, row in enumerate(rows):
        left_s = 0.0
        for name in STAGES:
            part_s = max(row.mean_s[name], 0.0)
            panel.barh(index, 1e3 * part_s, left=1e3 * left_s, height=0.66, color=light(name), linewidth=0)
            left_s += part_s
        beyond = " →" if left_s > 1.1 * edge_s else ""
        panel.annotate(
            format_duration(row.total_s) + beyond, (1e3 * min(left_s, 1.1 * edge_s), index), xytext=(5, 0),
            textcoords="offset points", va="center",
            color=light("ink"), fontsize=FONT_PX - 1,
            bbox={"facecolor": light("panel"), "linewidth": 0, "pad": 1.5},
        )  # fmt: skip
    if summary.deadline_s and summary.deadline_s < 1.1 * edge_s:
        panel.axvline(1e3 * summary.deadline_s, color=light("deadline"), linestyle=(0, (5, 3)), linewidth=1.4)
    panel.set_yticks(range(len(rows)), labels=[row.label(log.widths) for row in rows])
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlim(0, 1e3 * edge_s * 1.1)
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("mean time (ms)")
    return painted
