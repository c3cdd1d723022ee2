"""The picture of `isthmus trace plot`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isthmus.runtime.errors import InputError
from isthmus.runtime.links import RateTrace, binned_rates

_FORMATS = (".png", ".svg", ".pdf")


def draw(trace: RateTrace, to: Path, *, bin_s: float) -> None:
    """Draw one pass of `trace`, averaged over `bin_s` seconds, with its silences shaded, into the file `to`.

    Raises:
        InputError: If the file's ending is none we draw, or it cannot be written.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if to.suffix.lower() not in _FORMATS:
        raise InputError(f"{to}: give a file that ends in {', '.join(_FORMATS)}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    megabits = binned_rates(trace, bin_s) * 8e-6
    edges_s = np.arange(len(megabits) + 1) * bin_s
    figure = Figure(figsize=(9, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.stairs(megabits, edges_s, color="#2b6cb0", linewidth=0.8, fill=True, alpha=0.25)
    axes.stairs(megabits, edges_s, color="#2b6cb0", linewidth=0.8)
    for index in np.flatnonzero(megabits == 0.0):
        axes.axvspan(edges_s[index], edges_s[index + 1], color="#c53030", alpha=0.15, linewidth=0)
    axes.axhline(trace.mean_rate * 8e-6, color="#444444", linewidth=0.8, linestyle="--", label="mean")
    axes.set(xlabel="seconds", ylabel="Mbit/s", title=trace.name, xlim=(0, edges_s[-1]), ylim=(0, None))
    axes.legend(loc="upper right", frameon=False)
    try:
        figure.savefig(to)
    except OSError as error:
        raise InputError(f"{to}: {error.strerror or error}; choose another file") from None
