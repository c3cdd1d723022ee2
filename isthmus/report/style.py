"""The style sheet of the page: no script, no font, no image from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from isthmus.report.theme import css_variables


def style_sheet() -> str:
    """Return the CSS of the page: both themes, wide and narrow."""
    rules = files("isthmus.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        f":root{{color-scheme:light dark;{css_variables(dark=False)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{css_variables(dark=True)}}}}}\n{rules}"
    )
