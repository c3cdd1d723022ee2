"""The picture of `rate_accuracy`: accuracy over mean bytes, and over the device's milliseconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from _rate.curves import Images, Setting, front

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933", "#882255")
# One more than colours: a colour that comes again has another mark.
_MARKS = "osv^Dp<>*P"
# Points of accuracy below the uncut network.
_SHOWN = 40


def draw(
    title: str,
    methods: Mapping[str, Sequence[Setting]],
    dashed: Collection[str],
    teacher: Setting,
    images: Images,
    file: Path,
) -> None:
    """Draw every method's settings and the front through them into `file`.

    Args:
        title: Of the picture.
        methods: Settings by method, in the order of the legend.
        dashed: Methods whose fronts are dashed.
        teacher: The uncut network.
        images: What the settings were run over.
        file: The picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    best = highest = 100 * float(images.scores(teacher)[0])
    for number, (method, settings) in enumerate(methods.items()):
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        line = "--" if method in dashed else "-"
        scores = np.array([100 * images.scores(one)[0] for one in settings])
        highest = max(highest, float(scores.max()))
        sizes = np.array([images.sizes(one)[0] for one in settings])
        times = np.array([1000 * one.device_s for one in settings])
        for axes, values in ((left, sizes), (right, times)):
            axes.scatter(values, scores, s=16, c=colour, marker=mark, alpha=0.55, linewidths=0)
            kept = front(values, scores)
            axes.plot(values[kept], scores[kept], c=colour, marker=mark, ms=4, lw=1.5, ls=line, label=method)
    for axes in (left, right):
        axes.axhline(best, c="#555555", ls=":", lw=1)
        axes.axhspan(best - 1, best, color="#000000", alpha=0.06, lw=0)
        axes.set_xscale("log")
        axes.grid(True, which="both", alpha=0.2)
    right.scatter([1000 * teacher.device_s], [best], marker="X", c="#555555", s=50, label="all on the device")
    left.set_ylim(max(0.0, best - _SHOWN), highest + 2)
    left.set(xlabel="mean bytes per image (log)", ylabel=f"accuracy, % ({len(images.truth_n)} images)")
    right.set(xlabel="device time per image, ms (log): head or codec, coding included")
    figure.legend(*right.get_legend_handles_labels(), fontsize=8, loc="outside right upper")
    figure.suptitle(f"{title}; dotted: uncut network, band: 1 point below it", fontsize=10)
    figure.savefig(file, dpi=130)
