"""How `isthmus profile` prints a profile: 80 columns, three lines a way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from isthmus.cli._common import out
from isthmus.runtime.units import format_bytes, format_duration

if TYPE_CHECKING:
    from isthmus.device_agents.profiling.bundle_run import Profile
    from isthmus.device_agents.profiling.clock_offset import ClockOffset
    from isthmus.device_agents.profiling.figures import Quantiles, WayFigures

_QUANTILES = ("p50", "p90", "p99")
_SCENARIOS = {
    "SingleStream": "one frame after the other",
    "MultiStream": "several at once, the next when all are answered; total is of all of them",
    "Server": "random arrivals (Poisson)",
    "Offline": "as many as are taken",
}
_METRICS = {
    "SingleStream": ("latency_p90_s", "p90 of total"),
    "MultiStream": ("query_p99_s", "p99 of total"),
    "Server": ("latency_p99_s", "p99 of total"),
    "Offline": ("frames_per_s", "frames per second"),
}


def mlperf_figure(figures: WayFigures) -> dict[str, Any]:
    """Return the one figure that MLPerf takes of this scenario."""
    name = _METRICS[figures.scenario][0]
    value = {
        "latency_p90_s": figures.latency.p90_s,
        "query_p99_s": figures.query.p99_s,
        "latency_p99_s": figures.latency.p99_s,
        "frames_per_s": figures.throughput_per_s,
    }[name]
    return {"metric": name, "value": value}


def print_profile(about: dict[str, Any], profile: Profile, files: Sequence[str]) -> None:
    """Print the tables, what the device was like, and what is not to be trusted."""
    from isthmus.device_agents.profiling.figures import PARTS, REST

    parts = (*PARTS, REST)
    for scenario in dict.fromkeys(one.scenario for one in profile.figures):
        chosen = [one for one in profile.figures if one.scenario == scenario]
        _say(f"{scenario}: {_SCENARIOS[scenario]}; its figure is {_METRICS[scenario][1]}")
        _print_table(chosen, [part for part in parts if any(part in one.parts for one in chosen)])
    _say(
        "ms per frame; queue: the server's; tail of an exit, the uncut or a plain network: the device's own; "
        "rest: waiting, hand-overs, sending, the server's decoding and answering"
    )
    _say(_conditions(profile))
    if about.get("server"):
        _say(clock_line(profile.offset))
    for line in _doubts(profile.figures):
        _say(line)
    for file in files:
        _say(file)


def clock_line(offset: ClockOffset | None) -> str:
    """Return what is known of the server's clock, in one line."""
    if offset is None:
        return "server's clock: it does not tell"
    drift = "" if offset.drift is None else f", {offset.drift * 1e6:+.0f} µs per second"
    clocks = "" if len(offset.segments) == 1 else f"; {len(offset.segments)} clocks, this is the surest"
    return (
        f"server's clock: {offset.surest.offset_s:+.6f} s from this one, "
        f"± {format_duration(offset.surest.delay_s / 2)} at best, "
        f"± {format_duration(offset.uncertainty_s)} at worst{drift} (from {offset.frames} frames){clocks}"
    )


def milliseconds(seconds: float) -> str:
    """Return milliseconds with three figures that count, at most five characters below 100 s."""
    value = seconds * 1e3
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _rate(per_s: float) -> str:
    return f"{per_s:.0f}" if per_s >= 99.95 else f"{per_s:.1f}"


def _print_table(figures: Sequence[WayFigures], parts: Sequence[str]) -> None:
    from rich.table import Table

    energy = any(one.energy for one in figures)
    modelled = any(one.energy and one.energy.source.startswith("model:") for one in figures)
    sized = any(one.payload_bytes is not None for one in figures)
    headers = [
        "point",
        *(["B"] if sized else []),
        "",
        *parts,
        "total",
        "fps",
        *(["mJ*" if modelled else "mJ"] if energy else []),
    ]
    table = Table(*headers, box=None, pad_edge=False, padding=(0, 1 if energy else 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    table.columns[0].no_wrap = True
    for one in figures:
        for row in _rows(one, parts, energy, sized):
            table.add_row(*row)
    out.print(table)
    if modelled:
        _say("* modelled, not measured")


def _rows(one: WayFigures, parts: Sequence[str], energy: bool, sized: bool) -> Iterable[list[str]]:
    total = one.query if one.scenario == "MultiStream" else one.latency
    nbytes = "" if one.payload_bytes is None else f"{one.payload_bytes:.0f}"
    for line, name in enumerate(_QUANTILES):
        first = line == 0
        joules = f"{one.energy.per_frame_j * 1e3:.3g}" if one.energy and first else ""
        yield [
            one.way.label + ("" if one.trusted else " ?") if first else "",
            *([nbytes if first else ""] if sized else []),
            name,
            *(_quantile(one.parts.get(part), name) for part in parts),
            _quantile(total, name),
            _rate(one.throughput_per_s) if first else "",
            *([joules] if energy else []),
        ]


def _doubts(figures: Sequence[WayFigures]) -> list[str]:
    """Return one line for every rule that was broken, with who broke it and how much."""
    several = len({one.scenario for one in figures}) > 1
    found: dict[str, list[str]] = {}
    for one in figures:
        label = f"{one.way.label} {one.scenario}" if several else one.way.label
        for doubt in one.doubts:
            found.setdefault(doubt.rule, []).append(label + (f" ({doubt.detail})" if doubt.detail else ""))
    return [f"? {rule}: {', '.join(labels)}" for rule, labels in found.items()]


def _quantile(quantiles: Quantiles | None, name: str) -> str:
    return "" if quantiles is None else milliseconds(getattr(quantiles, f"{name}_s"))


def _conditions(profile: Profile) -> str:
    from isthmus.device_agents.profiling.conditions import summarise

    seen = summarise(list(profile.moments))
    said = []
    if seen.rss_bytes is not None:
        said.append(f"memory {format_bytes(seen.rss_bytes)}")
    if seen.temperature_c is not None:
        said.append(f"{seen.temperature_c:.0f} °C")
    if seen.frequency_min_hz is not None and seen.frequency_max_hz is not None:
        low, high = f"{seen.frequency_min_hz / 1e9:.2f}", f"{seen.frequency_max_hz / 1e9:.2f}"
        said.append(f"{high} GHz" if low == high else f"{low} to {high} GHz")
    if seen.busy_share is not None and seen.others_share is not None:
        said.append(f"processors {seen.busy_share:.0%} busy, {seen.others_share:.0%} for other processes")
    if seen.throttled is not None:
        said.append(f"throttled: {', '.join(seen.causes)}" if seen.throttled else "not throttled")
    said.append(f"energy by {profile.energy_source}" if profile.energy_source else "no energy meter")
    if profile.idle_w is not None:
        said.append(f"{profile.idle_w:.2f} W at rest")
    return "; ".join(said)


def _say(text: str) -> None:
    out.print(text, soft_wrap=True, markup=False)
