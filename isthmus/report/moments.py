"""Frames over time: a mark each where they were kept one by one, else counts and quantiles of stretches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isthmus.report.runlog import RunLog
from isthmus.report.tally import latency_edges_s
from isthmus.report.theme import OUTCOME_MARKS, light
from isthmus.runtime.events import OUTCOMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Column = NDArray[np.float64]
Since = Callable[[Column], Column]

# More marks than this are drawn as an image inside the SVG: the file stays small and browsers stay quick.
VECTOR_MARKS = 3_000
_MAX_ROWS_LABELLED = 16
_COLUMNS, _NARROW_COLUMNS = 300, 120


def paint_point_spans(
    panel: Axes, log: RunLog, order: Sequence[int], names: Sequence[str], since: Since
) -> None:
    """Draw a bar for every frame, in the row of its operating point, in the colour of its outcome.

    Args:
        panel: Where.
        log: The run, all of whose frames were kept.
        order: Indices of operating points, the lowest row first.
        names: Of the rows.
        since: Instants on the axis.
    """
    frames = log.kept
    at = since(frames.captured_s)
    # A frame is drawn as long as the time to the next one, at most: neighbours of one kind merge into a bar.
    step = float(np.median(np.diff(at))) if len(frames) > 1 else float(since(np.array([log.end_s]))[0])
    for row, point in enumerate(order):
        for index, outcome in enumerate(OUTCOMES):
            spans = merge_spans(at[(frames.point == point) & (frames.outcome == index)], step)
            if spans:
                panel.broken_barh(
                    spans, (row - 0.36, 0.72), facecolor=light(outcome), linewidth=0,
                    rasterized=len(frames) > VECTOR_MARKS,
                )  # fmt: skip
    _label_rows(panel, names)


def paint_point_columns(
    panel: Axes, log: RunLog, order: Sequence[int], names: Sequence[str], since: Since, *, narrow: bool
) -> None:
    """Draw, per stretch and operating point, its commonest outcome, paler where fewer frames were there."""
    starts_s, counts = _columns(log, narrow=narrow)  # [stretches, points, outcomes]
    edges = since(starts_s)
    total = np.maximum(counts.sum(axis=(1, 2)), 1)
    for row, point in enumerate(order):
        if point >= counts.shape[1]:
            continue
        here = counts[:, point]
        share = here.sum(axis=1) / total
        commonest = here.argmax(axis=1)
        # Four shades are as many as people tell apart in so thin a bar.
        shade = np.where(share > 0, np.ceil(np.sqrt(share) * 4), 0).astype(np.int64)
        for index, outcome in enumerate(OUTCOMES):
            for level in range(1, 5):
                chosen = np.flatnonzero((commonest == index) & (shade == level))
                spans = [(float(edges[i]), float(edges[i + 1] - edges[i])) for i in chosen]
                if spans:
                    panel.broken_barh(
                        spans, (row - 0.4, 0.8), facecolor=light(outcome), alpha=0.25 * level, linewidth=0,
                        rasterized=True,
                    )  # fmt: skip
    _label_rows(panel, names)


def merge_spans(at: Column, step: float) -> list[tuple[float, float]]:
    """Return (start, length) of bars over the instants `at`; those within 1.5 `step` share one."""
    if len(at) == 0:
        return []
    breaks = np.flatnonzero(np.diff(at) > 1.5 * step)
    starts = at[np.concatenate([[0], breaks + 1])]
    ends = at[np.concatenate([breaks, [len(at) - 1]])] + step
    return [(float(start), float(end - start)) for start, end in zip(starts, ends, strict=True)]


def paint_marks(panel: Axes, log: RunLog, since: Since) -> None:
    """Draw a mark for the latency of every frame, in the shape and colour of its outcome."""
    frames = log.kept
    latency_s = frames.time_s("latency_s")
    known_s = latency_s[~np.isnan(latency_s)]
    top_s = _top_s(log, float(np.percentile(known_s, 99.5)) if len(known_s) else 0.0)
    for outcome in OUTCOMES:
        here = frames.ended_as(outcome) & ~np.isnan(latency_s)
        if bool(here.any()):
            # A few far outliers would flatten all the rest: they stand at the upper edge.
            panel.plot(
                since(frames.captured_s[here]), 1e3 * np.minimum(latency_s[here], top_s), linestyle="none",
                marker=OUTCOME_MARKS[outcome], markersize=3.0 if outcome != "late" else 5.0,
                markeredgewidth=0, color=light(outcome), alpha=0.85, clip_on=False,
                rasterized=len(frames) > VECTOR_MARKS,
            )  # fmt: skip
    panel.set_ylim(0, 1e3 * top_s)


def paint_bands(panel: Axes, log: RunLog, since: Since, *, narrow: bool) -> None:
    """Draw the latency that half, nine tenths and 99 % of each stretch's frames stayed below."""
    buckets = log.tally.latencies
    size = -(-len(buckets.counts) // (_NARROW_COLUMNS if narrow else _COLUMNS))
    counts = np.add.reduceat(buckets.counts, np.arange(0, len(buckets.counts), size), axis=0)
    starts_s = buckets.edges_s()[np.append(np.arange(0, len(buckets.counts), size), len(buckets.counts))]
    edges_s = latency_edges_s()
    reached, total = np.cumsum(counts, axis=1), counts.sum(axis=1)

    def quantile_s(share: float) -> Column:
        wanted = share * total
        place = np.minimum((reached < wanted[:, None]).sum(axis=1), counts.shape[1] - 1)
        rows = np.arange(len(counts))
        within = 1 - (reached[rows, place] - wanted) / np.maximum(counts[rows, place], 1)
        # Inside a bin the values are taken to be spread evenly, or curves would move in steps of a bin.
        between_s = edges_s[place] + np.clip(within, 0, 1) * (edges_s[place + 1] - edges_s[place])
        return np.where(total > 0, between_s, np.nan)

    half, most, nearly_all = (1e3 * quantile_s(share) for share in (0.5, 0.9, 0.99))
    edges = since(starts_s)
    panel.stairs(nearly_all, edges, baseline=half, fill=True, color=light("band"), alpha=0.35, linewidth=0)
    panel.stairs(most, edges, baseline=half, fill=True, color=light("band"), linewidth=0)
    panel.stairs(half, edges, baseline=None, color=light("ink"), linewidth=1.4)
    top_s = _top_s(log, float(np.nanpercentile(nearly_all, 98)) / 1e3)
    panel.set_ylim(0, 1e3 * top_s)


def paint_outcomes(panel: Axes, log: RunLog, width_s: float, since: Since, unit_s: float) -> None:
    """Draw the share of outcomes in each `width_s` seconds."""
    if log.complete:
        at_s, weights = log.kept.captured_s, np.eye(len(OUTCOMES))[log.kept.outcome]
    else:
        buckets = log.tally.moments
        at_s = buckets.edges_s()[:-1] + buckets.width_s / 2
        weights = _by_point(buckets.counts).sum(axis=1)
    edges_s = log.start_s + np.arange(0, log.duration_s + width_s, width_s)
    place = np.clip(np.searchsorted(edges_s, at_s, side="right") - 1, 0, len(edges_s) - 2)
    parts = np.stack(
        [np.bincount(place, weights[:, i], minlength=len(edges_s) - 1) for i in range(len(OUTCOMES))]
    )
    parts = parts / np.maximum(parts.sum(axis=0), 1)
    base = np.zeros(len(edges_s) - 1)
    lefts = since(edges_s[:-1])
    for outcome, part in zip(OUTCOMES, parts, strict=True):
        drawn = part > 0
        panel.bar(
            lefts[drawn], part[drawn], width=0.92 * width_s / unit_s, bottom=base[drawn], align="edge",
            color=light(outcome), linewidth=0,
        )  # fmt: skip
        base += part
    panel.set_yticks([0, 0.5, 1], labels=["0", "50 %", "100 %"])
    panel.set_ylim(0, 1.02)


def _columns(log: RunLog, *, narrow: bool) -> tuple[Column, NDArray[np.int64]]:
    """Return the bounds of a few hundred stretches, and frames [stretches, points, outcomes] in them."""
    buckets = log.tally.moments
    counts = buckets.counts
    size = -(-len(counts) // (_NARROW_COLUMNS if narrow else _COLUMNS))
    starts = np.arange(0, len(counts), size)
    edges_s = buckets.edges_s()[np.append(starts, len(counts))]
    return edges_s, _by_point(np.add.reduceat(counts, starts, axis=0))


def _by_point(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return counts [stretches, channels] as [stretches, points, outcomes]; the last may lack outcomes."""
    padded = np.pad(counts, ((0, 0), (0, -counts.shape[1] % len(OUTCOMES))))
    return padded.reshape(len(padded), -1, len(OUTCOMES))


def _label_rows(panel: Axes, names: Sequence[str]) -> None:
    every = -(-len(names) // _MAX_ROWS_LABELLED)
    panel.set_yticks(range(0, len(names), every), labels=list(names[::every]))
    panel.set_ylim(-0.7, len(names) - 0.3)
    panel.grid(axis="x")


def _top_s(log: RunLog, quantile_s: float) -> float:
    deadlines_s = log.deadline_steps()[1]
    return max(1.15 * quantile_s, 1.25 * float(deadlines_s.max(initial=0.0)), 1e-3)
