"""`isthmus simulate`: policies over traces on a virtual clock, and fleets of devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli._common import JsonFlag, out, print_json
from isthmus.cli._group import verb_group
from isthmus.cli._progress import progress
from isthmus.cli._simulate_fleet import fleet

if TYPE_CHECKING:
    from isthmus.runtime.simulation import DeviceWorld, Row


def device(
    target: Annotated[Path, typer.Argument(metavar="BUNDLE|POINTS", help="A bundle, or its points.json.")],
    trace: Annotated[
        list[str] | None,
        typer.Option(
            help="Uplink: a file, a folder of files, or a generator; may be repeated [default: outage]."
        ),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="May be repeated [default: expected-utility].")
    ] = None,
    objective: Annotated[
        str, typer.Option(help="accuracy, energy or bytes:PER_HOUR; of expected-utility, not of others.")
    ] = "accuracy",
    deadline: Annotated[list[str] | None, typer.Option(help="May be repeated [default: 150ms].")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames captured per second [default: 30].")] = None,
    duration: Annotated[str, typer.Option(help="Seconds of every run.")] = "60s",
    delay: Annotated[str | None, typer.Option(help="Propagation, one way [default: 10ms].")] = None,
    jitter: Annotated[str, typer.Option(help="Median jitter, one way (lognormal, sigma 0.5).")] = "0ms",
    seeds: Annotated[int, typer.Option(min=1, help="Runs, each beginning elsewhere in the trace.")] = 3,
    machine: Annotated[
        str | None,
        typer.Option("--device", help="Times and joules on this machine: pi4, another reference, or a file."),
    ] = None,
    from_events: Annotated[
        list[Path] | None,
        typer.Option(help="Event logs of a real run: its times, and its link unless --trace is given."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes [default: all cores].")] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Write tables, plots and the first seeds' event logs here.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run policies over traces and deadlines on a virtual clock, beside a clairvoyant.

    Session, link estimate and policy are the agent's own. Regret is 1 - U/U of the clairvoyant; ± is the 95 %
    interval over seeds.
    """
    from isthmus.cli._simulate_worlds import Setting, read_subject, worlds_of
    from isthmus.runtime.server.config import usable_cores
    from isthmus.runtime.simulation import rows, seeded, sweep
    from isthmus.runtime.units import parse_duration_s

    subject = read_subject(target)
    base = worlds_of(
        subject,
        Setting(
            traces=tuple(trace or ()),
            deadlines_s=tuple(parse_duration_s(text) for text in deadline or ()),
            fps=fps,
            duration_s=parse_duration_s(duration),
            delay_s=None if delay is None else parse_duration_s(delay),
            jitter_s=parse_duration_s(jitter),
            machine=machine,
            events=tuple(from_events or ()),
        ),
    )
    policies = policy or ["expected-utility"]
    worlds = [one for world in base for one in seeded(world, seeds)]
    with progress(f"{len(worlds) * len(policies)} runs") as show:
        outcomes = sweep(
            worlds,
            policies,
            objective=objective,
            jobs=jobs or usable_cores(),
            progress=lambda share: show(share=share),
        )
    table = rows(outcomes)
    written: list[Path] = []
    if out_dir is not None:
        from isthmus.cli._simulate_files import write_device

        written = write_device(out_dir, subject, base, policies, outcomes, table, objective=objective)
    if as_json:
        from dataclasses import asdict

        print_json({"rows": [asdict(row) for row in table], "files": [str(file) for file in written]})
        return
    _print(table, base, objective)
    for file in written:
        out.print(str(file), markup=False, soft_wrap=True)


def _print(table: list[Row], worlds: list[DeviceWorld], objective: str) -> None:
    from rich.table import Table

    from isthmus.runtime.units import format_bytes, format_duration

    energy = worlds[0].energy
    # Eight columns fit a terminal: with joules, one deadline for all goes below the table.
    deadlines = {row.deadline_s for row in table}
    with_deadline = energy is None or len(deadlines) > 1
    head = Table("trace", "policy", box=None, pad_edge=False)
    for name in (*(["deadline"] if with_deadline else []), "utility", "regret", "hits", "server", "sent"):
        head.add_column(name, justify="right", no_wrap=True)
    if energy is not None:
        head.add_column("J", justify="right", no_wrap=True)
    head.columns[0].overflow = "fold"
    head.columns[1].no_wrap = True
    for row in table:
        head.add_row(
            Path(row.trace).name,
            row.policy,
            *([format_duration(row.deadline_s)] if with_deadline else []),
            _share(row.utility),
            _share(row.regret),
            f"{row.hit_share.mean:.1%}",
            f"{row.remote_share.mean:.1%}",
            format_bytes(row.payload_bytes.mean),
            *(["" if row.energy_j is None else f"{row.energy_j.mean:.3g}"] if energy else []),
        )
    out.print(head)
    frames = sum(world.frames for world in worlds) * table[0].seeds
    notes = [
        f"simulated: {frames} frames a policy; hits: answered in time by server or device; sent: payload "
        "bytes per captured frame"
    ]
    if not with_deadline:
        notes[0] += f"; deadline {format_duration(deadlines.pop())}"
    if energy is not None:
        radio = "with its radio" if energy.radio else "without its radio, which the profile does not know"
        notes.append(
            f"J: joules per captured frame, modelled ({energy.source}): resting and computing, {radio}"
        )
    if objective != "accuracy":
        notes.append(f"objective {objective}: utility is given up for it, so regret is no fault here")
    for note in notes:
        out.print(note, soft_wrap=True)


def _share(value: Any) -> str:
    spread = "" if value.half_width is None else f"±{100 * value.half_width:.1f}"
    return f"{100 * value.mean:.1f}{spread} %"


app = verb_group(
    "device",
    {"device": device, "fleet": fleet},
    "Run policies over traces on a virtual clock, beside a clairvoyant; or a fleet of devices.",
)
