"""A report as one picture: every figure of every run under its title, with its legend; light, for print."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from isthmus.report.comparison import draw_latencies, draw_worth
from isthmus.report.html import drawings
from isthmus.report.legends import Swatch
from isthmus.report.runlog import RunLog
from isthmus.report.summary import Summary
from isthmus.report.svg import POINTS_PER_INCH, WIDE_PX, Drawing, drawing_style
from isthmus.report.theme import light
from isthmus.report.verdict import verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

_SCALE = 2  # pixels of the picture per pixel of the page
_LINE_PX, _TITLE_PX, _MARGIN_PX = 18.0, 15.0, 24
_TEXT_COLUMNS = 130
_LINES: dict[str, Literal["-", "--", "-.", ":"]] = {
    "line": "-",
    "dots": "-",
    "dash": "--",
    "dashdot": "-.",
    "dotted": ":",
}


def render_sheet(runs: Sequence[RunLog], summaries: Sequence[Summary]) -> bytes:
    """Return the figures of `runs`, whose figures `summaries` are, as a PNG.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    with drawing_style():
        parts: list[Image] = []
        if len(runs) > 1:
            parts.append(_words(f"Isthmus: {len(runs)} runs", ""))
            parts += _pictures([draw_worth(summaries, key="w"), draw_latencies(runs, summaries, key="l")])
        for log, summary in zip(runs, summaries, strict=True):
            parts.append(_words(f"Isthmus run: {log.name}", verdict(summary)))
            parts += _pictures(list(drawings(log, summary, prefix="run").values()))
    return _stacked(parts)


def _pictures(figures: Sequence[Drawing | None]) -> list[Image]:
    parts = []
    for drawing in figures:
        if drawing is not None:
            parts += [_heading(drawing), _image(drawing.paint(WIDE_PX).figure)]
    return parts


def _words(title: str, text: str) -> Image:
    import textwrap

    lines = textwrap.wrap(text, _TEXT_COLUMNS)
    figure = _blank(2 * _LINE_PX + _LINE_PX * len(lines))
    _write(figure, title, 0.0, size=1.3 * _TITLE_PX, weight="bold")
    for number, line in enumerate(lines):
        _write(figure, line, 1.7 * _LINE_PX + number * _LINE_PX, colour="soft")
    return _image(figure)


def _heading(drawing: Drawing) -> Image:
    """Return a figure's title and its legend, as many entries in a line as fit."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    lines: list[list[tuple[float, Swatch]]] = [[]]
    at_px = 0.0
    for entry in drawing.legend:
        text_px = float(TextPath((0, 0), entry.text, size=12, prop=FontProperties()).get_extents().width)
        if at_px + text_px + 26 > WIDE_PX and lines[-1]:
            lines.append([])
            at_px = 0.0
        lines[-1].append((at_px, entry))
        at_px += text_px + 44
    figure = _blank(_LINE_PX * (len(lines) + 2.4))
    _write(figure, drawing.title, _LINE_PX, size=_TITLE_PX, weight="bold")
    height_px = figure.get_figheight() * POINTS_PER_INCH
    for number, line in enumerate(lines):
        top_px = 2.3 * _LINE_PX + number * _LINE_PX
        for left_px, entry in line:
            figure.add_artist(_mark(entry, left_px + 8, height_px - top_px - 7, height_px))
            _write(figure, entry.text, top_px, left_px=left_px + 22)
    return _image(figure)


def _mark(entry: Swatch, x_px: float, y_px: float, height_px: float) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    x, y, colour = x_px / WIDE_PX, y_px / height_px, light(entry.colour)
    half = 8 / WIDE_PX
    if entry.shape in ("block", "hatch"):
        return Rectangle(
            (x - half, y - 6 / height_px), 2 * half, 12 / height_px, linewidth=0,
            facecolor=colour if entry.shape == "block" else "none", edgecolor=colour,
            hatch="////" if entry.shape == "hatch" else None,
        )  # fmt: skip
    if entry.shape in _LINES:
        return Line2D(
            [x - half, x, x + half], [y] * 3, color=colour, linestyle=_LINES[entry.shape], linewidth=2,
            marker="o" if entry.shape == "dots" else "", markevery=[1], markersize=4,
        )  # fmt: skip
    hollow = entry.shape == "ring"
    return Line2D(
        [x], [y], color=colour, marker="o" if hollow else entry.shape, markersize=8,
        markerfacecolor="none" if hollow else colour, linestyle="none",
    )  # fmt: skip


def _blank(height_px: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDE_PX / POINTS_PER_INCH, height_px / POINTS_PER_INCH), dpi=POINTS_PER_INCH)


def _write(
    figure: Figure,
    text: str,
    top_px: float,
    *,
    left_px: float = 0.0,
    size: float = 12.0,
    weight: str = "normal",
    colour: str = "ink",
) -> None:
    height_px = figure.get_figheight() * POINTS_PER_INCH
    figure.text(
        left_px / WIDE_PX, 1 - top_px / height_px, text, fontsize=size, fontweight=weight, va="top",
        color=light(colour), parse_math=False,
    )  # fmt: skip


def _image(figure: Figure) -> Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    FigureCanvasAgg(figure)
    figure.patch.set_alpha(1.0)
    figure.patch.set_facecolor(light("panel"))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_SCALE * POINTS_PER_INCH)
    with Image.open(buffer) as picture:
        return picture.convert("RGB")


def _stacked(parts: Sequence[Image]) -> bytes:
    from PIL import Image

    width = max(part.width for part in parts) + 2 * _SCALE * _MARGIN_PX
    height = sum(part.height for part in parts) + 2 * _SCALE * _MARGIN_PX
    sheet = Image.new("RGB", (width, height), light("panel"))
    top = _SCALE * _MARGIN_PX
    for part in parts:
        sheet.paste(part, (_SCALE * _MARGIN_PX, top))
        top += part.height
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
