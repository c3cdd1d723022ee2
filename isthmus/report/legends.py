"""Legends: facts beside a drawing, so that a page can wrap them and a picture paint them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from isthmus.report.theme import OUTCOME_WORDS

_SHAPES = {
    "o": '<circle cx="8" cy="8" r="4.5"/>',
    "^": '<path d="M8 3 13 12.5H3Z"/>',
    "s": '<rect x="3.6" y="3.6" width="8.8" height="8.8"/>',
    "X": '<path d="m3 5 2-2 3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3Z"/>',
    "d": '<path d="M8 2 11.5 8 8 14 4.5 8Z"/>',
    "D": '<path d="M8 2.5 13.5 8 8 13.5 2.5 8Z"/>',
    "ring": '<circle cx="8" cy="8" r="5.5" fill="none" stroke-width="1.6"/>',
    "block": '<rect x="1" y="2" width="14" height="12" rx="2"/>',
    "line": '<path d="M0 8H16" fill="none" stroke-width="2"/>',
    "dots": '<path d="M0 8H16" fill="none" stroke-width="1.2"/><circle cx="8" cy="8" r="2.6"/>',
    "dash": '<path d="M0 8H16" fill="none" stroke-width="2" stroke-dasharray="5 2.5"/>',
    "dashdot": '<path d="M0 8H16" fill="none" stroke-width="2" stroke-dasharray="7 2 2 2"/>',
    "dotted": '<path d="M0 8H16" fill="none" stroke-width="2" stroke-dasharray="2 2"/>',
    "hatch": '<path d="M1 13 7 3M5.5 13l6-10M10 13l5-8.5" fill="none" stroke-width="1.4"/>',
}
SWATCH_OF_LINE = {"-": "line", "--": "dash", "-.": "dashdot", ":": "dotted"}
_MARK_OF = {"remote": "o", "exit": "^", "local": "s", "late": "X", "dropped": "d"}


@dataclass(frozen=True, slots=True)
class Swatch:
    """One entry of a legend: a mark of this module's shapes, a colour of the theme, what it stands for."""

    shape: str
    colour: str
    text: str


def outcome_swatches(outcomes: Sequence[str]) -> list[Swatch]:
    """Return the entries of the outcomes that occur."""
    return [Swatch(_MARK_OF[name], name, f"{name}: {OUTCOME_WORDS[name]}") for name in outcomes]


def legend(entries: Sequence[Swatch]) -> str:
    """Return entries as an HTML list, or nothing if there are none."""
    items = "".join(
        f'<li><svg class="swatch" viewBox="0 0 16 16" aria-hidden="true" fill="var(--{entry.colour})" '
        f'stroke="var(--{entry.colour})" stroke-width="0">{_SHAPES[entry.shape]}</svg>'
        f"{escape(entry.text)}</li>"
        for entry in entries
    )
    return f'<ul class="legend">{items}</ul>' if items else ""
