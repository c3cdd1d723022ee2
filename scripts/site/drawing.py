"""Boxes, arrows and words of our pictures, in a light and a dark dress of the same drawing.

Colours are Okabe and Ito's, which people with any colour vision can tell apart; meaning never rests on
colour alone, every part has its word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

# kind → (edge, filling) in light, then in dark.
_DRESS = {
    "light": {
        "ink": "#1a202c",
        "soft": "#566070",
        "plain": ("#566070", "#ffffff"),
        "device": ("#0072b2", "#eaf4fb"),
        "server": ("#b34f00", "#fdf1e6"),
        "link": ("#00785a", "#e8f6f1"),
        "warn": ("#a3306f", "#faebf3"),
    },
    "dark": {
        "ink": "#e8ecf2",
        "soft": "#a4afbd",
        "plain": ("#a4afbd", "#2b303b"),
        "device": ("#56b4e9", "#1d3442"),
        "server": ("#f0985a", "#41301f"),
        "link": ("#3fc79a", "#1c3a31"),
        "warn": ("#e79ac4", "#42293a"),
    },
}
THEMES = tuple(_DRESS)
_CHARACTER_PX = 0.54  # of a sans serif's average glyph, by its size


@dataclass
class Picture:
    """One drawing, in one dress.

    Attributes:
        width, height: In CSS pixels.
        title, description: For people who hear pictures read out.
        theme: One of `THEMES`.
    """

    width: int
    height: int
    title: str
    description: str
    theme: str
    _parts: list[str] = field(default_factory=list)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str = "",
        sub: str | Sequence[str] = (),
        kind: str = "plain",
        dashed: bool = False,
    ) -> None:
        """Draw a box with a word in its middle, and smaller lines below it.

        Raises:
            ValueError: If a line is wider than the box.
        """
        edge, filling = self._pair(kind)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="7" fill="{filling}" '
            f'stroke="{edge}" stroke-width="1.5"{dash}/>'
        )
        lines = [(text, 15, "ink")] if text else []
        lines += [(line, 12, "soft") for line in ([sub] if isinstance(sub, str) else sub)]
        middle = y + height / 2 - sum(size + 4 for _, size, _ in lines) / 2
        for line, size, colour in lines:
            if len(line) * size * _CHARACTER_PX > width - 6:
                raise ValueError(f"{self.title}: {line!r} is wider than its box of {width:g}")
            middle += size + 4
            self.word(x + width / 2, middle - 5, line, size=size, colour=colour, anchor="middle")

    def frame(self, x: float, y: float, width: float, height: float, text: str, kind: str) -> None:
        """Draw a large frame with its name in the upper left corner."""
        edge, _ = self._pair(kind)
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="11" fill="none" '
            f'stroke="{edge}" stroke-width="1.5"/>'
        )
        self.word(x + 14, y + 24, text, colour=edge, bold=True)

    def word(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 14,
        colour: str = "ink",
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Write one line."""
        known = _DRESS[self.theme].get(colour, colour)
        fill = known if isinstance(known, str) else known[0]
        weight = ' font-weight="700"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}>'
            f"{escape(text)}</text>"
        )

    def arrow(self, *points: tuple[float, float], kind: str = "plain", head: bool = True) -> None:
        """Draw a line through `points`, with a head at its end."""
        edge, _ = self._pair(kind)
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        end = f' marker-end="url(#{kind})"' if head else ""
        self._parts.append(f'<path d="{path}" fill="none" stroke="{edge}" stroke-width="1.7"{end}/>')

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """Draw a filled bar."""
        edge, filling = self._pair(kind)
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{filling}" '
            f'stroke="{edge}" stroke-width="1.2"/>'
        )

    def svg(self) -> str:
        """Return the picture."""
        heads = "".join(
            f'<marker id="{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{self._pair(kind)[0]}"/></marker>'
            for kind in ("plain", "device", "server", "link", "warn")
        )
        parts = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'font-family="system-ui, -apple-system, \'Segoe UI\', sans-serif" role="img" '
            f'aria-labelledby="title desc">\n<title id="title">{escape(self.title)}</title>\n'
            f'<desc id="desc">{escape(self.description)}</desc>\n<defs>{heads}</defs>\n{parts}\n</svg>\n'
        )

    def _pair(self, kind: str) -> tuple[str, str]:
        pair = _DRESS[self.theme][kind]
        assert not isinstance(pair, str)
        return pair
