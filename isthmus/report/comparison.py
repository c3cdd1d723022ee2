"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.report.charts import share_axis
from isthmus.report.labels import count, percent
from isthmus.report.legends import SWATCH_OF_LINE, Swatch
from isthmus.report.runlog import RunLog
from isthmus.report.summary import Summary
from isthmus.report.svg import FONT_PX, Canvas, Drawing, canvas, name_panel
from isthmus.report.tables import DASH, Cell, Column, Table, of
from isthmus.report.theme import RUN_COLOURS, RUN_LINES, WIDTH_MARKS, light
from isthmus.report.verdict import is_sound
from isthmus.runtime.units import format_bytes, format_duration


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure that ranks runs: how to read it from a summary, how to say it, and which way is better."""

    heading: str
    read: Callable[[Summary], float | None]
    say: Callable[[float], str]
    high_is_good: bool | None = None


def _per_frame_j(summary: Summary) -> float | None:
    return summary.energy.per_frame_j if summary.energy else None


_FIGURES = (
    _Figure("In time", lambda s: s.in_time.value if s.in_time else None, percent, True),
    _Figure("Accuracy", lambda s: s.accuracy.run.value if s.accuracy.run else None, percent, True),
    _Figure(
        "While connected",
        lambda s: s.accuracy.connected.value if s.accuracy.connected else None,
        percent,
        True,
    ),
    _Figure(
        "Right and in time",
        lambda s: s.accuracy.run_correct_in_time.value if s.accuracy.run_correct_in_time else None,
        percent,
        True,
    ),
    _Figure("Latency p50", lambda s: s.latency.p50_s if s.latency else None, format_duration, False),
    _Figure("p99", lambda s: s.latency.p99_s if s.latency else None, format_duration, False),
    _Figure("Mean payload", lambda s: s.payload_bytes_mean, format_bytes),
    _Figure("Energy per frame", _per_frame_j, lambda joules: f"{1e3 * joules:.3g} mJ", False),
    _Figure("Regret", lambda s: s.regret.regret if s.regret else None, percent, False),
)


def comparison_table(summaries: Sequence[Summary]) -> Table:
    """Return one column per run and one row per figure that ranks runs; unknown figures have a dash."""
    rows: list[list[str | Cell]] = [
        ["Policy", *(summary.policy or DASH for summary in summaries)],
        ["Frames from", *(summary.source or DASH for summary in summaries)],
        ["Deadline", *(DASH if s.deadline_s is None else format_duration(s.deadline_s) for s in summaries)],
        ["Account", *("balanced" if is_sound(summary) else "see below" for summary in summaries)],
        ["Frames", *(count(summary.accounting.captured) for summary in summaries)],
    ]
    for figure in _FIGURES:
        if any(figure.read(summary) is not None for summary in summaries):
            rows.append([figure.heading, *_cells(figure, summaries)])
    if any(summary.energy is not None for summary in summaries):
        rows.append(["Energy's source", *(_source(summary) for summary in summaries)])
    return of("Runs side by side", [Column(heading="Figure"), *(s.name for s in summaries)], rows)


def _source(summary: Summary) -> str:
    if summary.energy is None:
        return DASH
    return f"{summary.energy.source}, {'measured' if summary.energy.measured else 'modelled'}"


def _cells(figure: _Figure, summaries: Sequence[Summary]) -> list[Cell]:
    values = [figure.read(summary) for summary in summaries]
    there = [value for value in values if value is not None]
    most = max(max(there), 0.0) or 1.0
    best, word = None, "highest" if figure.high_is_good else "lowest"
    if figure.high_is_good is not None and len({figure.say(value) for value in there}) > 1:
        best = figure.say(max(there) if figure.high_is_good else min(there))
    cells = []
    for value in values:
        if value is None:
            cells.append(Cell(DASH))
            continue
        # Bars of accuracies would all be nearly full.
        share = None if figure.high_is_good else min(max(value / most, 0.0), 1.0)
        cells.append(Cell(figure.say(value), share, word if figure.say(value) == best else ""))
    return cells


def draw_latencies(logs: Sequence[RunLog], summaries: Sequence[Summary], *, key: str) -> Drawing | None:
    """Return the distributions of latency of all runs in one picture; None if none answered a frame."""
    shown = [
        (log, summary) for log, summary in zip(logs, summaries, strict=True) if summary.latency is not None
    ]
    if not shown:
        return None
    looks = run_looks(len(logs))
    told = "; ".join(
        f"{s.name} half within {format_duration(s.latency.p50_s)}, "
        f"99 % within {format_duration(s.latency.p99_s)}"
        for _, s in shown
        if s.latency
    )
    deadlines_s = sorted({s.deadline_s for _, s in shown if s.deadline_s is not None})
    entries = [
        Swatch(SWATCH_OF_LINE[line], colour, summary.name)
        for (colour, line), summary in zip(looks, summaries, strict=True)
    ]
    entries += [Swatch("dash", "deadline", f"deadline, {format_duration(d)}") for d in deadlines_s]
    return Drawing(
        key=key,
        title="Latency, run beside run",
        caption="Share of a run's answered frames that were answered within a time after their capture.",
        alt=f"Cumulative distributions of latency: {told}.",
        paint=lambda width_px: _paint_latencies(logs, looks, deadlines_s, width_px),
        legend=tuple(entries),
    )


def run_looks(runs: int) -> list[tuple[str, str]]:
    """Return a colour and a kind of line for each run; no two of twenty are alike."""
    return [(RUN_COLOURS[i % len(RUN_COLOURS)], RUN_LINES[i % len(RUN_LINES)]) for i in range(runs)]


def _paint_latencies(
    logs: Sequence[RunLog], looks: Sequence[tuple[str, str]], deadlines_s: Sequence[float], width_px: float
) -> Canvas:
    painted = canvas(width_px, (230,), left_px=58)
    panel = painted.panels[0]
    name_panel(painted, panel, "share of frames answered within")
    parts = [log.tally.quantiles() for log in logs]
    most_s = max(part.at((0.99,))[0] for part in parts if part.count)
    right_s = max(1.1 * most_s, *(1.2 * deadline_s for deadline_s in deadlines_s), 1e-6)
    for part, (colour, line) in zip(parts, looks, strict=True):
        if part.count:
            x_s, y = part.cumulative()
            x_s, y = np.append(x_s, max(right_s, float(x_s[-1]))), np.append(y, 1.0)
            panel.plot(
                1e3 * x_s, y, color=light(colour), linestyle=line, drawstyle="steps-post", linewidth=2.0
            )
    for deadline_s in deadlines_s:
        panel.axvline(1e3 * deadline_s, color=light("deadline"), linestyle=(0, (5, 3)), linewidth=1.4)
    panel.set_xlim(0, 1e3 * right_s)
    share_axis(panel)
    panel.set_xlabel("latency, capture to answer (ms)")
    return painted


def draw_worth(summaries: Sequence[Summary], *, key: str) -> Drawing | None:
    """Return right answers in time against bytes of all runs; None if no two runs know both."""
    shown = [
        (number, s.payload_bytes_total / max(s.accounting.logged, 1), s.accuracy.run_correct_in_time)
        for number, s in enumerate(summaries)
    ]
    known = [(number, nbytes, share.value) for number, nbytes, share in shown if share is not None]
    if len(known) < 2:
        return None
    looks = run_looks(len(summaries))
    told = "; ".join(
        f"{summaries[n].name} {percent(value)} at {format_bytes(nbytes)}" for n, nbytes, value in known
    )
    return Drawing(
        key=key,
        title="Right answers against bytes, run beside run",
        caption="Frames answered rightly and in time, of all captured, against the mean payload of a "
        "captured frame (0 for one that was not sent). Up and left is better; the line is the 95 % interval.",
        alt=f"Share of captured frames answered rightly and in time against mean bytes: {told}.",
        paint=lambda width_px: _paint_worth(summaries, known, looks, width_px),
        legend=tuple(Swatch(_MARK_SWATCHES[n % 4], looks[n][0], summaries[n].name) for n, _, _ in known),
    )


_MARK_SWATCHES = ("o", "s", "^", "D")


def _paint_worth(
    summaries: Sequence[Summary],
    known: Sequence[tuple[int, float, float]],
    looks: Sequence[tuple[str, str]],
    width_px: float,
) -> Canvas:
    painted = canvas(width_px, (230,), left_px=58, right_px=24)
    panel = painted.panels[0]
    name_panel(painted, panel, "right and in time, of the frames captured")
    lows, highs = [], []
    for number, nbytes, value in known:
        share = summaries[number].accuracy.run_correct_in_time
        assert share is not None, "only known ones are drawn"
        lows.append(share.low)
        highs.append(share.high)
        colour = light(looks[number][0])
        panel.plot([nbytes, nbytes], [share.low, share.high], color=colour, linewidth=1.4)
        panel.plot(
            nbytes, value, color=colour, marker=WIDTH_MARKS[number % 4], markersize=9, linestyle="none",
            clip_on=False,
        )  # fmt: skip
    pad = max(0.1 * (max(highs) - min(lows)), 0.004)
    panel.set_ylim(min(lows) - pad, min(max(highs) + pad, 1.005))
    most = max(nbytes for _, nbytes, _ in known) or 1.0
    panel.set_xlim(-0.03 * most, 1.08 * most)
    ticks = [tick for tick in panel.get_xticks() if 0 <= tick <= 1.08 * most]
    panel.set_xticks(ticks, labels=[format_bytes(tick) for tick in ticks])
    panel.set_xlim(-0.03 * most, 1.08 * most)
    shown = [tick for tick in panel.get_yticks() if panel.get_ylim()[0] <= tick <= panel.get_ylim()[1]]
    digits = 0 if len(shown) < 2 or shown[1] - shown[0] >= 0.0099 else 1
    panel.set_yticks(shown, labels=[percent(tick, digits) for tick in shown])
    panel.set_xlabel("mean payload (bytes per captured frame)", fontsize=FONT_PX)
    return painted
