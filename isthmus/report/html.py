"""The page: one self-contained HTML file, readable without a network, a script or a mouse.

Decides the order of a report and what it needs from its folder. A content security policy in the page itself
forbids every outside request.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from isthmus import __version__
from isthmus.report import sections, tables
from isthmus.report.charts import draw_breakdown, draw_latency, stage_meanings
from isthmus.report.comparison import comparison_table, draw_latencies, draw_worth
from isthmus.report.costs import draw_energy, draw_regret
from isthmus.report.markup import facts, figure, folded, notes, table
from isthmus.report.runlog import RunLog
from isthmus.report.style import style_sheet
from isthmus.report.summary import Summary
from isthmus.report.svg import Drawing, drawing_style
from isthmus.report.timeline import draw_timeline
from isthmus.report.tradeoff import draw_tradeoff
from isthmus.runtime.events import EVENT_SCHEMA_VERSION

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render_page(runs: Sequence[RunLog], summaries: Sequence[Summary]) -> str:
    """Return the HTML of the report of `runs`, whose figures `summaries` are.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    one = len(runs) == 1
    title = f"Isthmus run: {runs[0].name}" if one else f"Isthmus: {len(runs)} runs"
    with drawing_style():
        pairs = enumerate(zip(runs, summaries, strict=True))
        bodies = [_article(log, summary, number, named=not one) for number, (log, summary) in pairs]
        top = "" if one else _overview(runs, summaries)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style_sheet()}</style></head><body>"
        '<a class="skip" href="#content">Skip to the content</a>'
        f'<header class="page-head"><h1>{escape(title)}</h1></header><main id="content">{top}'
        f"{''.join(bodies)}</main><footer>Written by Isthmus {escape(__version__)} from event logs "
        f"(schema {EVENT_SCHEMA_VERSION}).</footer></body></html>\n"
    )


def _overview(runs: Sequence[RunLog], summaries: Sequence[Summary]) -> str:
    links = "".join(f'<li><a href="#run{i}">{escape(s.name)}</a></li>' for i, s in enumerate(summaries))
    figures = (draw_worth(summaries, key="worth"), draw_latencies(runs, summaries, key="latencies"))
    return f'<nav aria-label="Runs"><ul>{links}</ul></nav>{table(comparison_table(summaries))}' + "".join(
        _figure_section(drawing) for drawing in figures
    )


def drawings(log: RunLog, summary: Summary, *, prefix: str) -> dict[str, Drawing | None]:
    """Return the figures of a run by name; None where there is nothing to draw."""
    return {
        "timeline": draw_timeline(log, summary, key=f"{prefix}-timeline"),
        "tradeoff": draw_tradeoff(log, summary, key=f"{prefix}-tradeoff"),
        "latency": draw_latency(log, summary, key=f"{prefix}-latency"),
        "stages": draw_breakdown(log, summary, key=f"{prefix}-stages"),
        "energy": draw_energy(summary, key=f"{prefix}-energy"),
        "regret": draw_regret(log, summary, key=f"{prefix}-regret"),
    }


def _article(log: RunLog, summary: Summary, number: int, *, named: bool) -> str:
    prefix = f"run{number}"
    figures = drawings(log, summary, prefix=prefix)
    pieces = {name: _figure_section(drawing) for name, drawing in figures.items()}
    gaps, deadlines = tables.interruptions(summary), tables.deadline_changes(summary)
    parts = [
        f'<article id="{prefix}">',
        f'<h2 class="run">{escape(log.name)}</h2>' if named else "",
        sections.header(log, summary),
        sections.key_figures(summary),
        pieces["timeline"],
        f"<h2>Interruptions</h2>{table(gaps)}" if gaps else "",
        f"<h2>Changes of the deadline</h2>{table(deadlines)}" if deadlines else "",
        f"<h2>Outcomes</h2>{sections.account(summary)}{table(tables.outcomes(summary))}",
        f"<h2>Accuracy</h2>{table(tables.accuracy(summary))}",
        pieces["tradeoff"],
        f"<h2>Operating points used</h2>{table(tables.points(summary, log.widths))}",
        pieces["latency"],
        pieces["stages"],
        _stage_details(summary, log.widths) if summary.stages else "",
        pieces["energy"] + table(tables.energy(summary.energy)) if summary.energy else "",
        pieces["regret"],
        folded("What was chosen", table(tables.regret(summary.regret))) if summary.regret else "",
        f"<h2>Why the policy chose</h2>{table(tables.reasons(summary))}",
        f"<h2>Set-up</h2>{sections.set_up(log)}",
        f"<h3>What is missing</h3>{notes(summary.notes)}" if summary.notes else "",
        f"<h2>Definitions</h2>{sections.definitions(summary)}",
        "</article>",
    ]
    return "".join(parts)


def _stage_details(summary: Summary, widths: Sequence[float]) -> str:
    content = tables.stages(summary, widths)
    assert content is not None, "there are stages"
    meanings = facts(stage_meanings(list(summary.stages[0].mean_s)))
    return folded("As a table, and what the stages are", table(content) + meanings)


def _figure_section(drawing: Drawing | None) -> str:
    return "" if drawing is None else f"<h2>{escape(drawing.title)}</h2>{figure(drawing)}"
