"""Small pieces of HTML: tables that screen readers can follow, facts, figures. Escapes all it is given."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from isthmus.report.legends import legend
from isthmus.report.svg import Drawing
from isthmus.report.tables import Cell, Column, Table


def table(content: Table) -> str:
    """Return a table whose first column heads its rows; where it is too wide it scrolls, by keyboard too."""
    columns = content.columns
    heads = "".join(f'<th scope="col"{_prose(column)}>{escape(column.heading)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row"{_prose(columns[0])}>{escape(str(row[0]))}</th>'
        + "".join(_cell(cell, column) for column, cell in zip(columns[1:], row[1:], strict=True))
        + "</tr>"
        for row in content.rows
    )
    caption = escape(content.caption)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table>'
        f"<caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: str | Cell, column: Column) -> str:
    if isinstance(cell, str):
        return f"<td{_prose(column)}>{escape(cell)}</td>"
    text = escape(cell.text)
    if cell.word:
        text = f'<strong>{text}</strong><span class="word"> {escape(cell.word)}</span>'
    if cell.share is None:
        return f"<td{_prose(column)}>{text}</td>"
    # The bar repeats the number for the eye; who hears the page has the number.
    bar = f'<span class="meter" aria-hidden="true"><span style="width:{100 * cell.share:.1f}%"></span></span>'
    return f"<td{_prose(column)}>{text}{bar}</td>"


def _prose(column: Column) -> str:
    return ' class="text"' if column.prose else ""


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return names and values as a description list."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">{items}</dl>'


def cards(entries: Sequence[tuple[str, str, str]]) -> str:
    """Return key figures: name, value and a note each."""
    items = "".join(
        f'<div class="card"><dt>{escape(name)}</dt><dd><div class="value">{escape(value)}</div>'
        f'<div class="note">{escape(note)}</div></dd></div>'
        for name, value, note in entries
    )
    return f'<dl class="cards">{items}</dl>'


def figure(drawing: Drawing) -> str:
    """Return a drawing between legend and caption; the style sheet shows the width that fits the screen."""
    return (
        f'<figure id="{escape(drawing.key)}">{legend(drawing.legend)}<div class="wide">{drawing.wide()}</div>'
        f'<div class="narrow">{drawing.narrow()}</div>'
        f"<figcaption>{escape(drawing.caption)}</figcaption></figure>"
    )


def folded(summary: str, content: str) -> str:
    """Return `content` behind a line that unfolds it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def notes(lines: Sequence[str]) -> str:
    """Return sentences as a list, or nothing if there are none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if items else ""
