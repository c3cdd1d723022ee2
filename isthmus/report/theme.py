"""The colours of a report, once for light and once for dark, and the marks that tell the same without colour.

Figures are drawn with the light values; in the page each becomes a CSS variable, so that one drawing serves
both themes. Within outcomes, widths and stages the colours stay apart for people with deuteranopia,
protanopia and tritanopia as well (at least 0.08 in OKLab as Machado et al. 2009 simulate them), and those
of marks and lines contrast at least 3:1 with the panel; tests hold both. No fact is told by colour alone:
outcomes have marks, widths have marks and labels, runs have kinds of lines, stages have an order: colour says
only where they are spent, and two neighbours of one place differ in lightness.
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
        "remote": ("#0a58b0", "#5a9cf5"),
        "exit": ("#cb8200", "#f2bf1d"),
        "local": ("#2f9e88", "#a8f0dc"),
        "late": ("#9c1c06", "#e2572f"),
        "dropped": ("#565d69", "#98a8b8"),
        "estimate": ("#5b4bb5", "#b3a5ff"),
        "sound": ("#1b7f6b", "#58d3b5"),
        "deadline": ("#c0272d", "#ff7b72"),
        "w0": ("#a88600", "#f5da5a"),
        "w1": ("#46926a", "#8ad6a0"),
        "w2": ("#2a6f97", "#4da3e6"),
        "w3": ("#3a1f8a", "#7d6af2"),
        "device0": ("#112870", "#3b92f3"),
        "device1": ("#608bd2", "#bfe2f1"),
        "link": ("#b1811b", "#fedb21"),
        "server0": ("#1c654f", "#26765f"),
        "server1": ("#3edb7b", "#76c990"),
        "unexplained": ("#e1e9ee", "#3d4045"),
        "band": ("#8fb4e3", "#31588a"),
        "idle": ("#b9c3cd", "#59636d"),
        "run0": ("#0c4ace", "#528ffe"),
        "run1": ("#d47f1f", "#dfa82c"),
        "run2": ("#22a5a1", "#69cead"),
        "run3": ("#9c3178", "#ea289b"),
        "run4": ("#282642", "#e6e9ef"),
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


RUN_COLOURS = ("run0", "run1", "run2", "run3", "run4")
RUN_LINES = ("-", "--", "-.", ":")


def light(name: str) -> str:
    """Return the light value of the colour `name`, which drawings use."""
    return COLOURS[name][0]


def width_colour(index: int, count: int) -> str:
    """Return the colour name of width `index` of `count`: the ramp ends at the smallest and largest."""
    return f"w{round(3 * index / max(count - 1, 1))}"


def css_variables(*, dark: bool) -> str:
    """Return the colours as CSS custom properties."""
    return "".join(f"--{name}:{pair[dark]};" for name, pair in COLOURS.items())
