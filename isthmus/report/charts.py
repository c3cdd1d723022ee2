"""The distribution of latencies and where the time of a frame goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from isthmus.report.breakdown import UNEXPLAINED, Stages
from isthmus.report.labels import percent
from isthmus.report.legends import SWATCH_OF_LINE, Swatch
from isthmus.report.quantiles import RELATIVE_ERROR
from isthmus.report.runlog import RunLog
from isthmus.report.summary import Summary
from isthmus.report.svg import FONT_PX, Canvas, Drawing, canvas, name_panel
from isthmus.report.theme import OUTCOME_LINES, light
from isthmus.runtime.events import STAGES
from isthmus.runtime.units import format_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLACES = {stage.name: stage.where for stage in STAGES}
_MAX_ROWS = 14


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
    entries = [Swatch("line", "ink", "all answered frames")]
    entries += [
        Swatch(SWATCH_OF_LINE[OUTCOME_LINES[name]], name, f"{name} ({durations.count})")
        for name, durations in summary.latency_by_outcome.items()
    ]
    if deadline_s:
        entries.append(Swatch("dash", "deadline", summary.deadline_label))
    return Drawing(
        key=key,
        title="Latency distribution",
        caption="Share of frames answered within a time after their capture; each curve counts the frames of "
        "its own outcome." + ("" if latency.exact else f" Within {100 * RELATIVE_ERROR:g} % of the latency."),
        alt=alt,
        paint=lambda width_px: _paint_latency(log, summary, width_px),
        legend=tuple(entries),
    )


def _paint_latency(log: RunLog, summary: Summary, width_px: float) -> Canvas:
    painted = canvas(width_px, (230,), left_px=58)
    panel = painted.panels[0]
    name_panel(painted, panel, "share of frames answered within")
    everything = log.tally.quantiles()
    deadline_s = summary.deadline_s or 0.0
    right_s = max(1.2 * deadline_s, 1.1 * everything.at((0.995,))[0])
    for name in summary.latency_by_outcome:
        x_s, y = log.tally.latency[name].cumulative()
        panel.plot(
            1e3 * x_s, y, color=light(name), linestyle=OUTCOME_LINES[name], drawstyle="steps-post",
            linewidth=1.8,
        )  # fmt: skip
    x_s, y = everything.cumulative()
    x_s, y = np.append(x_s, max(right_s, float(x_s[-1]))), np.append(y, 1.0)
    panel.plot(1e3 * x_s, y, color=light("ink"), drawstyle="steps-post", linewidth=2.4)
    if deadline_s:
        panel.axvline(1e3 * deadline_s, color=light("deadline"), linestyle=(0, (5, 3)), linewidth=1.4)
    panel.set_xlim(0, 1e3 * right_s)
    share_axis(panel)
    panel.set_xlabel("latency, capture to answer (ms)")
    return painted


def share_axis(panel: Axes) -> None:
    """Make the vertical axis one of shares from 0 to 1."""
    panel.set_ylim(0, 1.03)
    panel.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1.0], labels=["0", "25 %", "50 %", "75 %", "90 %", "100 %"])


def draw_breakdown(log: RunLog, summary: Summary, *, key: str) -> Drawing | None:
    """Return the mean stages of a frame by outcome and operating point; None if no frame was answered."""
    rows = shown_rows(summary.stages)
    if not rows:
        return None
    names = list(rows[0].mean_s)
    alt = "Mean time of a frame by stage. " + " ".join(
        f"{row.label(log.widths)}: {format_duration(row.total_s)}, of it "
        + ", ".join(
            f"{name} {percent(row.mean_s[name] / row.total_s, 0)}"
            for name in names
            if row.mean_s[name] >= 0.005 * row.total_s
        )
        + "."
        for row in rows[:3]
        if row.total_s > 0
    )
    entries = [Swatch("block", colour, name) for name, colour in stage_colours(names).items()]
    if summary.deadline_s and summary.deadline_s < 1.1 * _edge_s(rows):
        entries.append(Swatch("dash", "deadline", summary.deadline_label))
    left_out = len(summary.stages) - len(rows)
    tail = f" The {left_out} rows with the fewest frames are left out here." if left_out else ""
    told = (
        ""
        if summary.stages_explain is None
        else (f" Of half the frames they explain {percent(summary.stages_explain)} or more.")
    )
    return Drawing(
        key=key,
        title="Where the time of a frame goes",
        caption="Mean over the frames of a row; the stages of a row add up to its mean latency. Colour says "
        f"where: device, link, server.{told}{tail}",
        alt=alt,
        paint=lambda width_px: _paint_breakdown(rows, log, summary, width_px),
        legend=tuple(entries),
    )


def stage_colours(names: Sequence[str]) -> dict[str, str]:
    """Return the colour of each stage: of its place, neighbours of one place in turns darker and lighter."""
    colours, seen = {}, dict.fromkeys(("device", "server"), 0)
    for name in names:
        place = _PLACES.get(name, UNEXPLAINED)
        if place in seen:
            colours[name] = f"{place}{seen[place] % 2}"
            seen[place] += 1
        else:
            colours[name] = place
    return colours


def stage_meanings(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return each stage with where it is spent and from when to when it lasts."""
    said = {stage.name: f"{stage.where}: {stage.meaning}" for stage in STAGES}
    return [(name, said.get(name, "what the log names no stage for")) for name in names]


def shown_rows(stages: tuple[Stages, ...]) -> list[Stages]:
    """Return the rows a chart has room for: those with the most frames, in their order."""
    most = sorted(range(len(stages)), key=lambda i: (stages[i].point is not None, -stages[i].frames))
    return [stages[i] for i in sorted(most[:_MAX_ROWS])]


def _edge_s(rows: Sequence[Stages]) -> float:
    """Return how long the longest bar is that is drawn whole."""
    # Late frames may take seconds: they must not squeeze the others, so their bar leaves the picture.
    in_time_s = max((row.total_s for row in rows if row.outcome != "late"), default=0.0)
    return in_time_s or max(row.total_s for row in rows)


def _paint_breakdown(rows: list[Stages], log: RunLog, summary: Summary, width_px: float) -> Canvas:
    painted = canvas(
        width_px, (24.0 * len(rows) + 8,), left_px=88 if width_px < 500 else 104, right_px=64, top_px=8
    )
    panel = painted.panels[0]
    edge_s = _edge_s(rows)
    for index, row in enumerate(rows):
        left_s = 0.0
        for name, colour in stage_colours(list(row.mean_s)).items():
            part_s = max(row.mean_s[name], 0.0)
            panel.barh(
                index, 1e3 * part_s, left=1e3 * left_s, height=0.66, color=light(colour),
                edgecolor=light("panel"), linewidth=0.7 if part_s > 0.004 * edge_s else 0,
            )  # fmt: skip
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
