"""Draw with matplotlib, end with SVG that belongs to its page.

Decides how drawings are made: one point is one CSS pixel, margins are given in pixels, text stays text,
colours become CSS variables, ids are unique in the page. Knows nothing of runs. No pyplot: no global state,
no windows.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from isthmus.report.legends import Swatch
from isthmus.report.theme import COLOURS, light
from isthmus.runtime.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS_PER_INCH = 72.0
FONT_PX = 12.0
WIDE_PX, NARROW_PX = 920.0, 358.0

_VARIABLE_OF = {pair[0]: f"var(--{name})" for name, pair in COLOURS.items()}
_HEX = re.compile("|".join(_VARIABLE_OF))
_TEXT_FAMILY = re.compile(r"font-family: [^;\"]*(?:; )?")
_SHORTHAND = re.compile(r"font: (?P<size>[0-9.]+px) [^;\"]*")  # matplotlib before 3.11
_IDS = re.compile(r'( id="|url\(#|href="#)')
_GROUP_IDS = re.compile(
    r' id="(?:figure|patch|axes|text|line2d|xtick|ytick|matplotlib|PolyCollection|LineC)[^"]*"'
)
_LONG_FRACTIONS = re.compile(r"(\d+\.\d\d)\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure with a title, a caption and a text for people who do not see it.

    `paint` draws it for a width in pixels; `legend` explains its marks.
    """

    key: str
    title: str
    caption: str
    alt: str
    paint: Callable[[float], Canvas]
    legend: tuple[Swatch, ...] = ()

    def wide(self) -> str:
        """Return the figure for a screen as an SVG element."""
        return _finish(self.paint(WIDE_PX), f"{self.key}-w", self.alt)

    def narrow(self) -> str:
        """Return the figure for a phone as an SVG element."""
        return _finish(self.paint(NARROW_PX), f"{self.key}-n", self.alt)


def drawing_style() -> AbstractContextManager[None]:
    """Return the settings all drawings share, as a context.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise MissingExtraError("a report with figures", "plot") from None
    ink, soft, rule = light("ink"), light("soft"), light("rule")
    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "font.size": FONT_PX,
            "axes.labelsize": FONT_PX,
            "xtick.labelsize": FONT_PX - 1,
            "ytick.labelsize": FONT_PX - 1,
            "axes.edgecolor": rule,
            "axes.labelcolor": soft,
            "axes.facecolor": "none",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.linewidth": 1.0,
            "grid.color": light("grid"),
            "grid.linewidth": 1.0,
            "text.color": ink,
            "xtick.color": rule,
            "ytick.color": rule,
            "xtick.labelcolor": soft,
            "ytick.labelcolor": soft,
            "xtick.major.size": 4,
            "ytick.major.size": 0,
            "ytick.minor.size": 0,
            "lines.linewidth": 1.6,
            "path.simplify": True,
            "path.simplify_threshold": 0.3,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """A figure whose panels are stacked from top to bottom, `left_px` from its left edge."""

    figure: Figure
    panels: tuple[Axes, ...]
    left_px: float
    narrow: bool


def canvas(
    width_px: float,
    panel_heights_px: Sequence[float],
    *,
    left_px: float,
    right_px: float = 14.0,
    top_px: float = 22.0,
    bottom_px: float = 40.0,
    gap_px: float = 34.0,
    share_x: bool = True,
) -> Canvas:
    """Return an empty canvas; everything is placed by pixels, so that nothing depends on the text in it."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    height_px = top_px + sum(panel_heights_px) + gap_px * (len(panel_heights_px) - 1) + bottom_px
    figure = Figure(figsize=(width_px / POINTS_PER_INCH, height_px / POINTS_PER_INCH), dpi=POINTS_PER_INCH)
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0.0)
    panels: list[Axes] = []
    y_px = height_px - top_px
    for panel_px in panel_heights_px:
        y_px -= panel_px
        box = (
            left_px / width_px,
            y_px / height_px,
            1 - (left_px + right_px) / width_px,
            panel_px / height_px,
        )
        panels.append(figure.add_axes(box, sharex=panels[0] if panels and share_x else None))
        y_px -= gap_px
    if share_x:
        for panel in panels[:-1]:
            panel.tick_params(labelbottom=False)
    return Canvas(figure=figure, panels=tuple(panels), left_px=left_px, narrow=width_px < 500)


def name_panel(painted: Canvas, panel: Axes, text: str, *, detail: str = "") -> None:
    """Write what a panel shows, with its unit, above it: it needs no room beside the axis.

    `detail` follows where there is room for it, which on a phone there is not.
    """
    panel.annotate(
        text if painted.narrow else text + detail, (0, 1), xycoords="axes fraction",
        xytext=(-painted.left_px + 14 if painted.narrow else 0, 7), textcoords="offset points", ha="left",
        va="baseline", color=light("ink"), fontsize=FONT_PX,
    )  # fmt: skip


def _finish(painted: Canvas, key: str, alt: str) -> str:
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": key}):
        painted.figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None}, dpi=2 * POINTS_PER_INCH
        )
    text = buffer.getvalue().decode("utf-8")
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style type=\"text/css\">.*?</style>", "", body, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None, "matplotlib writes a viewBox"
    body = _SHORTHAND.sub(r"font-size: \g<size>", _TEXT_FAMILY.sub("", _GROUP_IDS.sub("", body)))
    body = _HEX.sub(lambda match: _VARIABLE_OF[match[0]], body)
    body = _IDS.sub(rf"\g<1>{key}-", body).replace("xlink:href", "href")
    body = _LONG_FRACTIONS.sub(r"\1", re.sub(r"\s*\n\s*", " ", body))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view[1]}" role="img" aria-label="{escape(alt)}">'
    )
    return head + body.strip()
