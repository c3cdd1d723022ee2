"""The printed answer of `isthmus partition`: machines, a table of the best ways, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.cli._common import out
from isthmus.runtime.units import format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from rich.table import Table

    from isthmus.partitioner import Candidate, MachineFacts, Plan

_ROWS = 8
_CUT = 2
_UNKNOWN = "-"


def print_plan(plan: Plan) -> None:
    """Print `plan`: its machines and link, the ways worth a row, the choice and why."""
    splits = [item for item in plan.candidates if item.kind == "split"]
    several = sum(len(item.frontier) > 1 for item in splits)
    more = f" and {several} at several tensors" if several else ""
    out.print(f"{plan.model}: {len(splits) - several} single-tensor cuts{more}; {_link(plan)}", markup=False)
    for role, machine in (("device", plan.device), ("server", plan.server)):
        out.print(f"{role} = {_machine(machine)}", markup=False)
    rows = shown(plan)
    out.print(_table(plan, rows))
    for item in plan.candidates:
        if item.kind in ("local", "offload") and item.refused is not None:
            out.print(
                f"ruled out: {_where(item) if item.frontier else item.kind} ({item.refused})", markup=False
            )
    if notes := _notes(plan, [plan.candidates[index] for index in rows]):
        out.print("; ".join(notes), markup=False)
    _print_spread(plan)
    out.print(f"{plan.choice.reason[0].upper()}{plan.choice.reason[1:]}.", style="bold", markup=False)


def shown(plan: Plan) -> list[int]:
    """Return the candidates worth a row: choice, endpoints, a trained bottleneck, the best cuts."""
    from isthmus.partitioner.goal import Goal

    goal = Goal(asked=plan.asked)
    order = sorted(
        (index for index, item in enumerate(plan.candidates) if item.refused is None),
        key=lambda index: goal.key(plan.candidates[index]),
    )
    trained = (index for index in order if plan.candidates[index].learned is not None)
    wanted = {plan.choice.candidate, next((i for i in trained if goal.accurate(plan.candidates[i])), -1)}
    must = [
        index for index in order if index in wanted or plan.candidates[index].kind in ("local", "offload")
    ]
    # Where cuts were measured, predictions would only repeat their neighbours; of a bundle's points those
    # that another beats in everything are not worth a row.
    measured = [
        index for index in order if _worth_a_row(plan, index) and goal.accurate(plan.candidates[index])
    ]
    rest = [index for index in (measured or order) if index not in must]
    kept = {*must, *rest[: max(0, _ROWS - len(must))]}
    return [index for index in order if index in kept]


def _worth_a_row(plan: Plan, index: int) -> bool:
    item = plan.candidates[index]
    if item.learned is not None:
        return index in plan.pareto
    return item.measured is not None or item.max_rel_diff is not None


def _table(plan: Plan, rows: list[int]) -> Table:
    """Return the ways as a table; names of cuts are shortened until it fits the terminal."""
    from rich.table import Table

    device, server = ("^" * (side.source != "measured") for side in (plan.device, plan.server))
    timed = [plan.candidates[index].figures.on_time for index in rows]
    # Over a trace the share on time says more than the memory, which is in the plan.
    varies = any(share is not None and 0 < share < 1 for share in timed)
    titles = ["", "way", "cut", "bytes", f"head ms{device}", "link ms", f"tail ms{server}", "total ms", "J"]
    titles.append("on time" if varies else "MB")
    lines = [_cells(plan, index, varies=varies) for index in rows]
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
    room = out.width - sum(widths) + widths[_CUT] - (len(widths) - 1)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if place <= _CUT else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(_short(text, room) if place == _CUT else text for place, text in enumerate(line)))
    return table


def _cells(plan: Plan, index: int, *, varies: bool) -> list[str]:
    item = plan.candidates[index]
    times, energy_j = item.times, item.figures.energy_j
    memory = _UNKNOWN if item.memory_bytes is None else f"{item.memory_bytes / 1e6:.3g}"
    return [
        ">" if index == plan.choice.candidate else "",
        _way(plan, item),
        _where(item),
        format_bytes(item.payload_bytes) if item.payload_bytes else "0",
        *(_ms(seconds) for seconds in (times.device_s, times.link_s, times.server_s, times.total_s)),
        _UNKNOWN if energy_j is None else f"{energy_j:.2g}" if energy_j < 100 else f"{energy_j:.0f}",
        f"{item.figures.on_time or 0:.0%}" if varies else memory,
    ]


def _short(text: str, room: int) -> str:
    """Return `text` in `room` characters: of a long name the ends tell most."""
    room = max(room, 5)
    if len(text) <= room:
        return text
    front = (room - 1) // 2
    return f"{text[:front]}…{text[len(text) - (room - 1 - front) :]}"


def _way(plan: Plan, item: Candidate) -> str:
    name = "trained" if item.learned is not None else item.kind + "*" * item.assumed
    return name + ("~" if _predicted(plan, item) else "")


def _predicted(plan: Plan, item: Candidate) -> bool:
    """Say whether a stage of `item` was predicted: it was not run, or not on the machine in question."""
    uses = {"local": (plan.device,), "offload": (plan.server,)}.get(item.kind, (plan.device, plan.server))
    return item.measured is None or not all(side.here for side in uses)


def _where(item: Candidate) -> str:
    if item.learned is not None:
        point = item.learned
        return f"w{point.width:g} c{point.channels} {point.accuracy:.1%}"
    return item.module or item.cut or item.encoding


def _notes(plan: Plan, items: list[Candidate]) -> list[str]:
    notes = []
    if any(item.assumed for item in items):
        notes.append("* encoder, decoder and bytes assumed")
    if any(_predicted(plan, item) for item in items):
        notes.append("~ predicted, not run on that machine")
    if any(side.source != "measured" for side in (plan.device, plan.server)):
        notes.append("^ scaled or published, not measured there")
    if plan.energy == "above idle":
        notes.append("J above idle")
    if plan.searched.proven and plan.link.trace is None:
        notes.append(f"{plan.searched.considered} splits weighed by node costs")
    return notes


def _print_spread(plan: Plan) -> None:
    quantiles = plan.candidates[plan.choice.candidate].figures.quantiles_s
    if quantiles:
        text = ", ".join(f"{share:.0%} within {format_duration(seconds)}" for share, seconds in quantiles)
        out.print(f"over the trace: {text}", markup=False)


def _machine(machine: MachineFacts) -> str:
    threads = "" if machine.threads is None else f", {machine.threads} thread{'s' * (machine.threads > 1)}"
    if machine.here:
        speed = "" if machine.source == "measured" else f" at {machine.speed:g}x its speed (scaled)"
        return f"this machine{speed}{threads}"
    return f"{machine.name}{threads} ({machine.source}: {machine.origin.split(';')[0].split('. ')[0]})"


def _link(plan: Plan) -> str:
    link, rtt = plan.link, format_duration(plan.link.rtt_s)
    if link.trace is None:
        return f"link {format_rate(link.rate_bytes_per_s)}, RTT {rtt}"
    dead = f", dead {link.trace.dead_share:.0%} of the time" if link.trace.dead_share else ""
    return f"link {link.trace.name}, mean {format_rate(link.rate_bytes_per_s)}{dead}, RTT {rtt}"


def _ms(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"
