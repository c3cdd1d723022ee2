"""The picture of `regimes`: who wins over link rate and device speed, and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLOURS = {"local": "#2b6cb0", "offload": "#a0aec0", "split": "#2f855a", "bottleneck": "#dd6b20"}
_NAMES = {
    "local": "all on the device",
    "offload": "all on the server (JPEG or uint8)",
    "split": "raw split",
    "bottleneck": "bottleneck (assumed)",
}


def draw(
    name: str,
    grids: dict[str, NDArray[np.float64]],
    rates_mbit: NDArray[np.float64],
    speed: NDArray[np.float64],
    file: Path,
) -> None:
    """Draw winners and their gain over the better endpoint into `file`.

    Args:
        name: Of the network.
        grids: Latency of each kind in seconds, by speed and rate.
        rates_mbit: Of the link.
        speed: Of the device, as a share of the server's.
        file: The picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    kinds = list(grids)
    stacked = np.array([grids[kind] for kind in kinds])
    winner = stacked.argmin(axis=0)
    gain = np.minimum(grids["local"], grids["offload"]) / stacked.min(axis=0)
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    left.pcolormesh(
        rates_mbit,
        speed,
        winner,
        cmap=ListedColormap([_COLOURS[kind] for kind in kinds]),
        vmin=-0.5,
        vmax=len(kinds) - 0.5,
        shading="nearest",
    )
    handles = [
        Patch(color=_COLOURS[kind], label=f"{_NAMES[kind]}: {(winner == index).mean():.0%}")
        for index, kind in enumerate(kinds)
    ]
    left.set_title(f"{name}: least latency", fontsize="medium")
    mesh = right.pcolormesh(rates_mbit, speed, gain, cmap="viridis", vmin=1.0, shading="nearest")
    bar = figure.colorbar(mesh, ax=right)
    bar.set_label("gain over the better endpoint")
    right.set_title(f"largest gain {gain.max():.2f}x", fontsize="medium")
    for axes in (left, right):
        _label(axes)
    left.set_ylabel("device speed, as a share of the server's")
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    figure.savefig(file, dpi=100)


def _label(axes: Any) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("link, Mbit/s")
    axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1], ["0.02", "0.05", "0.1", "0.2", "0.5", "1"])
    axes.minorticks_off()
