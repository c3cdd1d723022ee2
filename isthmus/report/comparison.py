"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.report.labels import percent
from isthmus.report.markup import Column, table
from isthmus.report.statistics import Share
from isthmus.report.summary import Summary
from isthmus.runtime.units import format_bytes, format_duration


def comparison_table(summaries: Sequence[Summary]) -> str:
    """Return one row per run with the figures that rank runs."""
    columns = [
        "Run", "Frames", "In time", "Accuracy", "Right and in time", "While connected", "Latency p50", "p90",
        "p99",         "Mean payload", "Account",
    ]  # fmt: skip
    rows = [
        [
            summary.name,
            str(summary.accounting.captured),
            _percent(summary.in_time),
            _percent(summary.accuracy.run),
            _percent(summary.accuracy.run_correct_in_time),
            _percent(summary.accuracy.connected),
            *(_times(summary)),
            "–" if summary.payload_bytes_mean is None else format_bytes(summary.payload_bytes_mean),
            "balanced" if summary.accounting.balanced and summary.accounting.ended else "see below",
        ]
        for summary in summaries
    ]
    return table("Runs side by side", [Column(heading=text) for text in columns], rows)


def _percent(share: Share | None) -> str:
    return "–" if share is None else percent(share.value)


def _times(summary: Summary) -> list[str]:
    if summary.latency is None:
        return ["–"] * 3
    return [format_duration(s) for s in (summary.latency.p50_s, summary.latency.p90_s, summary.latency.p99_s)]
