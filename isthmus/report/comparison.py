"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.report.labels import percent
from isthmus.report.markup import Column, table
from isthmus.report.statistics import Share
from isthmus.report.summary import Summary
from isthmus.report.verdict import is_sound
from isthmus.runtime.units import format_bytes, format_duration


def comparison_table(summaries: Sequence[Summary]) -> str:
    """Return one row per run with the figures that rank runs."""
    names = (
        "Run", "Account", "Frames", "In time", "Accuracy", "While connected", "Latency p50", "p99",
        "Mean payload",
    )  # fmt: skip
    rows = [
        [
            summary.name,
            "balanced" if is_sound(summary) else "see below",
            str(summary.accounting.captured),
            _percent(summary.in_time),
            _percent(summary.accuracy.run),
            _percent(summary.accuracy.connected),
            "–" if summary.latency is None else format_duration(summary.latency.p50_s),
            "–" if summary.latency is None else format_duration(summary.latency.p99_s),
            "–" if summary.payload_bytes_mean is None else format_bytes(summary.payload_bytes_mean),
        ]
        for summary in summaries
    ]
    return table("Runs side by side", [Column(heading=name) for name in names], rows)


def _percent(share: Share | None) -> str:
    return "–" if share is None else percent(share.value)
