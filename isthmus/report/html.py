"""The page: one self-contained HTML file, readable without a network, a script or a mouse.

Decides the order of a report and what it needs from its folder. A content security policy in the page itself
forbids every outside request.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from isthmus import __version__
from isthmus.report import sections
from isthmus.report.charts import draw_breakdown, draw_latency
from isthmus.report.comparison import comparison_table
from isthmus.report.load import RunLog
from isthmus.report.markup import figure, notes
from isthmus.report.style import style_sheet
from isthmus.report.summary import Summary, summarise
from isthmus.report.svg import Drawing, drawing_style
from isthmus.report.timeline import draw_timeline
from isthmus.report.tradeoff import draw_tradeoff
from isthmus.runtime.errors import InputError
from isthmus.runtime.events import EVENT_SCHEMA_VERSION

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(runs: Sequence[RunLog], path: Path) -> None:
    """Write the report of `runs` to `path`; an existing file is replaced in one step.

    Raises:
        InputError: If the file cannot be written.
        MissingExtraError: If matplotlib is not installed.
    """
    if not path.absolute().parent.is_dir():  # said before the work, not after it
        raise InputError(f"{path}: its folder does not exist; make it or choose another --out file")
    page = render_page(runs)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; choose another --out file") from None


def render_page(runs: Sequence[RunLog]) -> str:
    """Return the HTML of the report of `runs`.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    summaries = [summarise(run) for run in runs]
    one = len(runs) == 1
    title = f"Isthmus run: {runs[0].name}" if one else f"Isthmus: {len(runs)} runs"
    with drawing_style():
        pairs = enumerate(zip(runs, summaries, strict=True))
        bodies = [_article(log, summary, number, named=not one) for number, (log, summary) in pairs]
    top = "" if one else _overview(summaries)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style_sheet()}</style></head><body>"
        f'<header class="page-head"><h1>{escape(title)}</h1></header><main>{top}{"".join(bodies)}</main>'
        f"<footer>Written by Isthmus {escape(__version__)} from event logs "
        f"(schema {EVENT_SCHEMA_VERSION}).</footer></body></html>\n"
    )


def _overview(summaries: Sequence[Summary]) -> str:
    links = "".join(f'<li><a href="#run{i}">{escape(s.name)}</a></li>' for i, s in enumerate(summaries))
    return f'<nav aria-label="Runs"><ul>{links}</ul></nav>{comparison_table(summaries)}'


def _article(log: RunLog, summary: Summary, number: int, *, named: bool) -> str:
    prefix = f"run{number}"
    shown = _missing(summary)
    parts = [
        f'<article id="{prefix}">',
        f'<h2 class="run">{escape(log.name)}</h2>' if named else "",
        sections.header(log, summary),
        sections.key_figures(summary),
        _figure_section(draw_timeline(log, summary, key=f"{prefix}-timeline")),
        sections.interruptions(summary),
        "<h2>Outcomes</h2>",
        sections.account(summary),
        "<h2>Accuracy</h2>",
        sections.accuracy_table(summary),
        _figure_section(draw_tradeoff(log, summary, key=f"{prefix}-tradeoff")),
        "<h2>Operating points used</h2>",
        sections.points_table(log, summary),
        _figure_section(draw_latency(log, summary, key=f"{prefix}-latency")),
        _figure_section(draw_breakdown(log, summary, key=f"{prefix}-stages")),
        sections.stages_table(log, summary) if summary.stages else "",
        "<h2>Why the policy chose</h2>",
        sections.reasons_table(summary),
        "<h2>Set-up</h2>",
        sections.set_up(log, summary),
        shown,
        "<h2>Definitions</h2>",
        sections.definitions(summary),
        "</article>",
    ]
    return "".join(parts)


def _figure_section(drawing: Drawing | None) -> str:
    return "" if drawing is None else f"<h2>{escape(drawing.title)}</h2>{figure(drawing)}"


def _missing(summary: Summary) -> str:
    return f"<h3>What is missing</h3>{notes(summary.notes)}" if summary.notes else ""
