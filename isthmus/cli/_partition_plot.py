"""The plot of `isthmus partition`: where each way's time goes, and what the Pareto set trades."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli._partition_table import shown
from isthmus.runtime.errors import InputError

if TYPE_CHECKING:
    from isthmus.partitioner import Candidate, Plan

_STAGES = (("device", "#2b6cb0"), ("link", "#b7791f"), ("server", "#4a5568"))
_KINDS = {"local": "#2b6cb0", "offload": "#4a5568", "split": "#2f855a", "bottleneck": "#c05621"}


def draw(plan: Plan, file: Path) -> None:
    """Draw `plan` into `file`: stacked times of the best ways, and latency against bytes of all.

    Raises:
        InputError: If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [plan.candidates[index] for index in shown(plan)]
    figure = Figure(figsize=(10, 1.6 + 0.38 * max(len(rows), 5)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _stack(plan, rows, left)
    _scatter(plan, right)
    headline = plan.choice.reason.split(";")[0]
    figure.suptitle(headline[0].upper() + headline[1:], fontsize="medium", wrap=True)
    try:
        figure.savefig(file, dpi=120, metadata={"Date": None} if file.suffix == ".svg" else None)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; choose another file for the plot") from None


def _stack(plan: Plan, rows: list[Candidate], axes: Any) -> None:
    from matplotlib.patches import Patch

    answered = [item for item in rows if item.times.link_s is not None]
    labels = []
    for place, item in enumerate(answered):
        start_ms = 0.0
        for (stage, colour), seconds in zip(
            _STAGES, (item.times.device_s, item.times.link_s or 0.0, item.times.server_s), strict=True
        ):
            axes.barh(
                place,
                seconds * 1e3,
                left=start_ms,
                color=colour,
                height=0.7,
                hatch="//" if item.assumed and stage != "link" else None,
                edgecolor="white",
                linewidth=0.5,
            )
            start_ms += seconds * 1e3
        chosen = item is plan.candidates[plan.choice.candidate]
        labels.append(("> " if chosen else "") + _label(item))
    axes.set_yticks(range(len(answered)), labels, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("ms from capture to answer (hatched: assumed)")
    axes.legend(
        [Patch(color=colour) for _, colour in _STAGES], [stage for stage, _ in _STAGES], frameon=False
    )
    axes.spines[["top", "right"]].set_visible(False)


def _scatter(plan: Plan, axes: Any) -> None:
    """Draw latency against bytes; what nothing beats is large."""
    front = {*plan.pareto}
    for kind, colour in _KINDS.items():
        named = False
        for large in (True, False):
            found = [
                item
                for index, item in enumerate(plan.candidates)
                if item.kind == kind and item.refused is None and (index in front) is large
            ]
            found = [item for item in found if item.times.total_s is not None]
            if found:
                axes.scatter(
                    [max(item.payload_bytes, 1) for item in found],
                    [1e3 * (item.times.total_s or 0.0) for item in found],
                    s=36 if large else 8,
                    color=colour,
                    alpha=1.0 if large else 0.35,
                    label=None if named else kind,
                    linewidths=0,
                )
                named = True
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("bytes of a frame (at 1: nothing crosses)")
    axes.set_ylabel("ms from capture to answer")
    axes.set_title("large: in the Pareto set", fontsize="small")
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)


def _label(item: Candidate) -> str:
    if item.learned is not None:
        return f"trained w{item.learned.width:g} c{item.learned.channels}"
    name = item.module or item.cut or item.encoding
    short = name if len(name) <= 22 else name[:10] + "…" + name[-11:]
    return item.kind if item.kind == "local" else f"{item.kind} {short}"
