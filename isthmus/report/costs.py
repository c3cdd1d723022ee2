"""What a run cost: joules per frame by where they went, and the worth it left to one who knew the future."""

from __future__ import annotations

import numpy as np

from isthmus.report.energy import EnergyUse
from isthmus.report.labels import percent
from isthmus.report.legends import Swatch
from isthmus.report.regret import Regret
from isthmus.report.runlog import RunLog
from isthmus.report.summary import Summary
from isthmus.report.svg import FONT_PX, Canvas, Drawing, canvas, name_panel
from isthmus.report.theme import light
from isthmus.report.timeline import TimeAxis, time_axis
from isthmus.runtime.units import format_duration

_TEXT_SHARE = 0.12  # narrower parts of the bar are named by the legend alone


def energy_parts(use: EnergyUse) -> list[tuple[str, str, float]]:
    """Return (name, colour, joules) of what is known of where the joules went, in the order of the bar."""
    radio_j = use.radio_j or 0.0
    rest = [("radio (modelled)", "link", radio_j)] if use.radio_j is not None else []
    if use.idle_j is None or use.compute_j is None:
        return [("idle and computing", "device0", use.total_j - radio_j), *rest]
    return [("idle", "idle", use.idle_j), ("computing", "device0", use.compute_j), *rest]


def draw_energy(summary: Summary, *, key: str) -> Drawing | None:
    """Return joules per frame, split; None if no meter was read."""
    use = summary.energy
    if use is None or not use.frames or use.total_j <= 0:
        return None
    parts = energy_parts(use)
    how = "measured" if use.measured else "modelled, not measured,"
    told = ", ".join(f"{name} {percent(joules / use.total_j)}" for name, _, joules in parts)
    per_frame_mj = 1e3 * use.total_j / use.frames
    return Drawing(
        key=key,
        title="Energy per frame",
        caption=f"Millijoules of the device per captured frame, {how} by {use.source}, over "
        f"{format_duration(use.seconds)}. The whole draws {use.power_w:.3g} W on average.",
        alt=f"{per_frame_mj:.3g} millijoules per frame, {how} by {use.source}: {told}.",
        paint=lambda width_px: _paint_energy(use, width_px),
        legend=tuple(
            Swatch("block", colour, f"{name}: {1e3 * joules / use.frames:.3g} mJ")
            for name, colour, joules in parts
        ),
    )


def _paint_energy(use: EnergyUse, width_px: float) -> Canvas:
    painted = canvas(width_px, (46,), left_px=14, right_px=24, top_px=6)
    panel = painted.panels[0]
    left = 0.0
    for name, colour, joules in energy_parts(use):
        share_mj = max(0.0, 1e3 * joules / use.frames)
        panel.barh(0, share_mj, left=left, height=0.8, color=light(colour), edgecolor=light("panel"))
        if share_mj > _TEXT_SHARE * 1e3 * use.total_j / use.frames and colour == "device0":
            panel.text(
                left + share_mj / 2, 0, name, ha="center", va="center", color=light("panel"),
                fontsize=FONT_PX - 1,
            )  # fmt: skip
        left += share_mj
    panel.set_yticks([])
    panel.set_ylim(-0.6, 0.6)
    panel.set_xlim(0, max(left, 1e3 * use.total_j / use.frames) * 1.02)
    panel.spines["left"].set_visible(False)
    panel.set_xlabel("millijoules per captured frame")
    return painted


def draw_regret(log: RunLog, summary: Summary, *, key: str) -> Drawing | None:
    """Return the run's worth over time beside the clairvoyant's; None if no clairvoyant could be asked."""
    found = summary.regret
    if found is None:
        return None
    axis = time_axis(log)
    part = (
        "The whole run was replayed"
        if found.windows == 1
        else f"{found.frames} frames in {found.windows} stretches of the run were replayed"
    )
    return Drawing(
        key=key,
        title="Regret",
        caption=f"Mean worth of a frame: the measured accuracy of what answered in time, 0 if nothing did. "
        f"{part} over {found.link} by one who knows them all; what lies between the lines is regret.",
        alt=f"A frame was worth {percent(found.utility)} on average; the clairvoyant got "
        f"{percent(found.oracle_utility)}, which makes a regret of {percent(found.regret)}.",
        paint=lambda width_px: _paint_regret(found, axis, width_px),
        legend=(
            Swatch("line", "ink", f"the clairvoyant: {percent(found.oracle_utility)}"),
            Swatch("dots", "remote", f"this run: {percent(found.utility)}"),
            Swatch("block", "band", f"regret: {percent(found.regret)}"),
        ),
    )


def _paint_regret(found: Regret, axis: TimeAxis, width_px: float) -> Canvas:
    painted = canvas(width_px, (170,), left_px=58)
    panel = painted.panels[0]
    name_panel(painted, panel, "mean worth of a frame (accuracy)")
    starts, ends = (
        np.array([getattr(one, name) for one in found.bins]) / axis.unit_s for name in ("start_s", "end_s")
    )
    mine, best = (
        np.array([getattr(one, name) for one in found.bins]) for name in ("utility", "oracle_utility")
    )
    middles = (starts + ends) / 2
    # Stretches that were not replayed stay empty.
    breaks = np.flatnonzero(starts[1:] - ends[:-1] > 1e-6) + 1
    for rows in np.split(np.arange(len(middles)), breaks):
        panel.fill_between(middles[rows], mine[rows], best[rows], color=light("band"), linewidth=0)
        panel.plot(middles[rows], best[rows], color=light("ink"), linewidth=1.6)
        panel.plot(
            middles[rows], mine[rows], color=light("remote"), linewidth=1.2, marker="o", markersize=3.4,
            clip_on=False,
        )  # fmt: skip
    low = min(float(mine.min()), float(best.min()))
    panel.set_ylim(max(0.0, low - 0.1 * (1 - low)), 1.0)
    shown = [tick for tick in panel.get_yticks() if panel.get_ylim()[0] <= tick <= 1.0]
    panel.set_yticks(shown, labels=[percent(tick, 0 if len(shown) < 6 else 1) for tick in shown])
    panel.set_xlim(0, axis.end)
    panel.set_xlabel(f"{axis.unit} since the start of the run")
    return painted
