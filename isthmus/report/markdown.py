"""A report as Markdown: the same tables, for a pull request or a wiki; no figures. Pure text."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.report import tables
from isthmus.report.comparison import comparison_table
from isthmus.report.runlog import RunLog
from isthmus.report.sections import key_entries, set_up_pairs
from isthmus.report.summary import Summary
from isthmus.report.tables import Cell, Column, Table
from isthmus.report.verdict import verdict

_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#~&"} | {"\n": " ", "\r": " "})


def render_markdown(runs: Sequence[RunLog], summaries: Sequence[Summary]) -> str:
    """Return the report of `runs`, whose figures `summaries` are, as Markdown."""
    one = len(runs) == 1
    head = f"# Isthmus run: {_text(runs[0].name)}" if one else f"# Isthmus: {len(runs)} runs"
    parts = [head] if one else [head, table(comparison_table(summaries))]
    for log, summary in zip(runs, summaries, strict=True):
        parts += _run(log, summary, level=2 if one else 3, named=not one)
    return "\n\n".join(parts) + "\n"


def _run(log: RunLog, summary: Summary, *, level: int, named: bool) -> list[str]:
    mark = "#" * level
    sections: list[tuple[str, Table | None]] = [
        ("Key figures", _key_figures(summary)),
        ("Interruptions", tables.interruptions(summary)),
        ("Changes of the deadline", tables.deadline_changes(summary)),
        ("Outcomes", tables.outcomes(summary)),
        ("Accuracy", tables.accuracy(summary)),
        ("Operating points used", tables.points(summary, log.widths)),
        ("Where the time of a frame goes", tables.stages(summary, log.widths)),
        ("Energy per frame", tables.energy(summary.energy) if summary.energy else None),
        ("Regret", tables.regret(summary.regret) if summary.regret else None),
        ("Why the policy chose", tables.reasons(summary)),
        ("Set-up", _set_up(log)),
    ]
    parts = [f"## {_text(log.name)}"] if named else []
    parts += [_text(verdict(summary)), _text(summary.accounting.statement)]
    for heading, content in sections:
        if content is not None:
            parts += [f"{mark} {heading}", table(content)]
    if summary.notes:
        parts += [f"{mark} What is missing", "\n".join(f"- {_text(line)}" for line in summary.notes)]
    return parts


def _key_figures(summary: Summary) -> Table:
    return tables.of(
        "",
        [Column(heading="Figure", prose=True), "Value", Column(heading="Note", prose=True)],
        key_entries(summary),
    )


def _set_up(log: RunLog) -> Table:
    return tables.of(
        "", [Column(heading="What", prose=True), Column(heading="Value", prose=True)], set_up_pairs(log)
    )


def table(content: Table) -> str:
    """Return a table after its caption."""
    lines = [
        [column.heading for column in content.columns],
        *([_plain(cell) for cell in row] for row in content.rows),
    ]
    rows = ["| " + " | ".join(map(_text, line)) + " |" for line in lines]
    sides = [":--" if column.prose or not index else "--:" for index, column in enumerate(content.columns)]
    rows.insert(1, "| " + " | ".join(sides) + " |")
    caption = f"{_text(content.caption)}:\n\n" if content.caption else ""
    return caption + "\n".join(rows)


def _plain(cell: str | Cell) -> str:
    return f"{cell.text} ({cell.word})" if isinstance(cell, Cell) and cell.word else str(cell)


def _text(text: str) -> str:
    return text.translate(_SPECIAL)
