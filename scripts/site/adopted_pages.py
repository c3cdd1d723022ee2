"""Pages that the repository already holds: each stands once, at its own place, and is shown here too.

Decides where they appear and how their links are turned; a link to a file that the site does not show
becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

# File of the repository (and a heading in it, for one section) → page of the site.
PAGES: Mapping[tuple[str, str | None], str] = {
    ("README.md", "Exit codes"): "reference/exit-codes.md",
    ("ARCHITECTURE.md", None): "reference/architecture.md",
    ("CHANGELOG.md", None): "reference/changelog.md",
    ("CONTRIBUTING.md", None): "reference/contributing.md",
    ("benchmarks/METHODOLOGY.md", None): "figures/methodology.md",
    ("benchmarks/results/cifar10-resnet56.md", None): "figures/cifar10-step-by-step.md",
}
_LINK = re.compile(r"(?<!\!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")


def zoo_cards(root: Path) -> dict[str, str]:
    """Return the card of every trained bottleneck that comes with the package: file → page of the site."""
    cards = sorted((root / "models" / "zoo").glob("*/card.md"))
    return {str(card.relative_to(root)): f"figures/zoo-{card.parent.name}.md" for card in cards}


def adopted_pages(root: Path) -> dict[str, str]:
    """Return the pages by their place in the site."""
    every = {**PAGES, **{(card, None): page for card, page in zoo_cards(root).items()}}
    whole = {source: page for (source, heading), page in every.items() if heading is None}
    pages = {}
    for (source, heading), page in every.items():
        text = (root / source).read_text(encoding="utf-8")
        if heading is not None:
            text = f"# {heading}\n\n{section(text, heading)}"
        pages[page] = turn_links(text, source=source, page=page, pages=whole)
    return pages


def section(text: str, heading: str) -> str:
    """Return what stands under `## heading`.

    Raises:
        ValueError: If there is no such heading: whoever renames it must look here.
    """
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"no heading '## {heading}': a page of the site is made from it")
    return found[1].strip() + "\n"


def turn_links(text: str, *, source: str, page: str, pages: Mapping[str, str]) -> str:
    """Return `text` of the repository's file `source` with links as they must be on `page` of the site."""
    here = posixpath.dirname(page)

    def turned(link: re.Match[str]) -> str:
        target, _, anchor = link["target"].partition("#")
        if "://" in target or not target:
            return link[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = pages.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if place is None:
            return link["text"]
        return f"[{link['text']}]({posixpath.relpath(place, here)}{'#' + anchor if anchor else ''})"

    return _LINK.sub(turned, text)
