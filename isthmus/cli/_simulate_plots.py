"""The plots of `isthmus simulate`; the only part of it that loads matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.runtime.simulation import Row
from isthmus.runtime.simulation.fleet import Moment, Sizing


def plot_device(table: Sequence[Row], file: Path) -> Path:
    """Draw every policy's regret per trace and deadline, with its 95 % interval, and return `file`."""
    policies = list(dict.fromkeys(row.policy for row in table))
    cells = list(dict.fromkeys((row.trace, row.deadline_s) for row in table))
    figure, axes = _figure(width=max(5.0, 1.5 + 0.6 * len(cells) * len(policies)))
    step = 0.8 / len(policies)
    for number, policy in enumerate(policies):
        mine = {(row.trace, row.deadline_s): row.regret for row in table if row.policy == policy}
        at = [index + (number - (len(policies) - 1) / 2) * step for index in range(len(cells))]
        axes.bar(
            at,
            [100 * mine[cell].mean for cell in cells],
            yerr=[100 * (mine[cell].half_width or 0.0) for cell in cells],
            width=step * 0.9,
            label=policy,
            capsize=2,
        )
    axes.set_xticks(range(len(cells)))
    axes.set_xticklabels(
        [f"{Path(trace).name}\n{deadline_s * 1e3:g} ms" for trace, deadline_s in cells], fontsize="small"
    )
    axes.set_ylabel("regret against the clairvoyant, %")
    axes.set_title("simulated runs; bars: 95 % interval over seeds", fontsize="medium")
    axes.legend(frameon=False, fontsize="small")
    return _save(figure, file)


def plot_sizing(devices: int, sizing: Sizing, file: Path) -> Path:
    """Draw the share of answers in time against the number of servers, and return `file`."""
    figure, axes = _figure()
    trials = sorted(sizing.trials, key=lambda trial: -trial.devices_per_server)
    axes.errorbar(
        [devices / trial.devices_per_server for trial in trials],
        [100 * trial.hit_share.mean for trial in trials],
        yerr=[100 * (trial.hit_share.half_width or 0.0) for trial in trials],
        marker="o",
        markersize=4,
        capsize=2,
    )
    axes.axhline(100 * sizing.target, linestyle="--", linewidth=1, color="0.5")
    if sizing.servers is not None:
        axes.axvline(sizing.servers, linestyle=":", linewidth=1, color="0.5")
    axes.set_xscale("log")
    axes.set_xlabel("servers")
    axes.set_ylabel("answered in time, %")
    axes.set_title(f"simulated: {devices} devices", fontsize="medium")
    return _save(figure, file)


def plot_moments(moments: Sequence[Moment], file: Path) -> Path:
    """Draw frames sent and answered in time, and servers, second by second, and return `file`."""
    figure, axes = _figure()
    at_s = [moment.at_s for moment in moments]
    axes.plot(at_s, [moment.sent for moment in moments], label="sent to servers")
    axes.plot(at_s, [moment.in_time for moment in moments], label="answered in time")
    axes.set_xlabel("seconds")
    axes.set_ylabel("frames a second")
    axes.set_ylim(bottom=0)
    if len({moment.servers for moment in moments}) > 1:
        right = axes.twinx()
        right.step(at_s, [moment.servers for moment in moments], where="pre", color="0.5", label="servers")
        right.set_ylabel("servers")
        right.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    axes.set_title("simulated", fontsize="medium")
    return _save(figure, file)


def _figure(width: float = 6.0) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, file: Path) -> Path:
    # Without a date and with fixed ids the same figures give the same file.
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "isthmus"}):
        figure.savefig(file, metadata={"Date": None})
    return file
