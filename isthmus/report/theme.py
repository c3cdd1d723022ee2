"""The colours of a report, once for light and once for dark, and the marks that tell the same without colour.

Figures are drawn with the light values; in the page each becomes a CSS variable, so that one drawing serves
both themes. Outcomes use the palette of Okabe and Ito (Color Universal Design, 2008), lightened for dark
grounds; widths use one ramp from yellow to blue whose order survives in grey. No fact is told by colour
alone: outcomes have marks, widths have marks and labels, stages have labels.
"""

from __future__ import annotations

from types import MappingProxyType

# name → (light, dark). The light values are distinct: a drawing is re-coloured by its hex codes.
COLOURS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "ground": ("#fdfdfc", "#14171a"),
        "panel": ("#ffffff", "#1b1f23"),
        "ink": ("#1d2329", "#e4e7ea"),
        "soft": ("#59626b", "#a3adb7"),
        "rule": ("#d9dee3", "#363d44"),
        "grid": ("#e9ecef", "#2a3036"),
        "outage": ("#dfe3e8", "#343c45"),
        "remote": ("#0072b2", "#56b4e9"),
        "exit": ("#e69f00", "#f0b93a"),
        "local": ("#009e73", "#2cc79b"),
        "late": ("#d55e00", "#ff8a3d"),
        "dropped": ("#b0569a", "#e39bcf"),
        "estimate": ("#5b4bb5", "#b3a5ff"),
        "deadline": ("#c0272d", "#ff7b72"),
        "w0": ("#b38f00", "#ffe066"),
        "w1": ("#4f9a6a", "#8fd8a4"),
        "w2": ("#2a6f97", "#63b7d8"),
        "w3": ("#3d2c8d", "#a99cf0"),
        "head": ("#33638d", "#7db1dc"),
        "encode": ("#e3b505", "#f2d14b"),
        "network": ("#8f9aa6", "#8a95a1"),
        "queue": ("#cc6677", "#e88b9a"),
        "compute": ("#117733", "#4fb873"),
        "rest": ("#cfd6dd", "#4a535c"),
    }
)

# A mark per outcome (matplotlib's names), so that colour is never the only difference.
OUTCOME_MARKS = MappingProxyType({"remote": "o", "exit": "^", "local": "s", "late": "X", "dropped": "d"})
OUTCOME_WORDS = MappingProxyType(
    {
        "remote": "answered by the server",
        "exit": "answered by the early exit",
        "local": "answered by the device alone",
        "late": "answered after the deadline",
        "dropped": "not answered",
    }
)
OUTCOME_LINES = MappingProxyType({"remote": "-", "exit": "--", "local": "-.", "late": ":"})
WIDTH_MARKS = ("o", "s", "^", "D")


def light(name: str) -> str:
    """Return the light value of the colour `name`, which drawings use."""
    return COLOURS[name][0]


def width_colour(index: int, count: int) -> str:
    """Return the colour name of width `index` of `count`: the ramp ends at the smallest and largest."""
    return f"w{round(3 * index / max(count - 1, 1))}"


def css_variables(*, dark: bool) -> str:
    """Return the colours as CSS custom properties."""
    return "".join(f"--{name}:{pair[dark]};" for name, pair in COLOURS.items())
