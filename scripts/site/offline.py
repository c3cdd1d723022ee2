"""Check that a built site loads nothing from elsewhere: `python scripts/site/offline.py FOLDER`.

Links that a reader may follow are free; what a browser loads by itself is not: scripts, styles, fonts,
pictures, frames, prefetches, and addresses inside style sheets.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

# Attributes by which an element makes the browser load something.
_LOADS = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "link": ("href",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
    "form": ("action",),
}
# A link element that only tells who we are loads nothing.
_HARMLESS_RELATIONS = {"canonical", "next", "prev", "alternate"}
_AWAY = re.compile(r"(?:[a-z]+:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and set(given.get("rel", "").split()) <= _HARMLESS_RELATIONS:
            return
        self.found += [
            given[name] for name in _LOADS.get(tag, ()) if name in given and _AWAY.match(given[name])
        ]
        self.found += _IN_STYLE.findall(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        self.found += _IN_STYLE.findall(data)


def outside_requests(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield (file, address) of whatever a browser would load from elsewhere."""
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".html", ".svg"):
            loads = _Loads()
            loads.feed(file.read_text(encoding="utf-8"))
            yield from ((file, address) for address in loads.found)
            # The theme's script loads a diagram library from elsewhere, but only for such elements.
            if 'class="mermaid"' in file.read_text(encoding="utf-8"):
                yield file, "mermaid"
        elif file.suffix == ".css":
            text = file.read_text(encoding="utf-8")
            yield from ((file, address) for address in _IN_STYLE.findall(text))


if __name__ == "__main__":
    troubles = [f"{file}: loads {address}" for file, address in outside_requests(Path(sys.argv[1]))]
    if troubles:
        sys.exit("\n".join(troubles))
