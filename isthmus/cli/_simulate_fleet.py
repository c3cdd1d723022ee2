"""`isthmus simulate fleet`: what becomes of the frames of many devices, and how many servers they need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli._common import JsonFlag, console, out, print_json
from isthmus.cli._progress import progress

if TYPE_CHECKING:
    from isthmus.runtime.simulation.fleet import FleetRun, FleetWorld, Sizing


def fleet(
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[BUNDLE|POINTS]", help="Gives payloads, head times and, a bundle, the tail's."
        ),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="How many devices.")] = 1000,
    servers: Annotated[
        int | None, typer.Option(min=1, help="How many servers, one accelerator each [default: as needed].")
    ] = None,
    hits: Annotated[
        float, typer.Option(help="Without --servers: find the fewest that answer this share in time.")
    ] = 0.99,
    fps: Annotated[float, typer.Option(help="Frames per second of an active device.")] = 1.0,
    deadline: Annotated[str, typer.Option(help="From capture to answer.")] = "150ms",
    duration: Annotated[str, typer.Option(help="What is simulated.")] = "60s",
    link: Annotated[
        list[str] | None,
        typer.Option(help="NAME:SHARE:RATE[:SIGMA], e.g. lte:0.7:2Mbit:0.5 (lognormal); may be repeated."),
    ] = None,
    trace: Annotated[
        list[str] | None,
        typer.Option(help="Instead of --link: uplinks on which the bundle's policy is simulated first."),
    ] = None,
    policy: Annotated[str, typer.Option(help="The policy on those traces.")] = "expected-utility",
    region: Annotated[
        list[str] | None,
        typer.Option(help="NAME:SHARE:RTT, e.g. near:0.8:20ms; may be repeated [default: all:1:20ms]."),
    ] = None,
    payload: Annotated[
        int | None, typer.Option(min=1, help="Bytes a frame, with --link [default: the table's best point].")
    ] = None,
    compute: Annotated[
        str | None, typer.Option(help="Head and encoding, with --link [default: the table's].")
    ] = None,
    tail_frame: Annotated[
        str | None, typer.Option(help="Server time per frame of a batch [default: measured here].")
    ] = None,
    tail_batch: Annotated[
        str | None, typer.Option(help="Server time per batch, whatever its size [default: measured here].")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Most frames of a batch.")] = 32,
    queue: Annotated[int, typer.Option(min=1, help="Most frames that wait at a server.")] = 256,
    admission: Annotated[
        str, typer.Option(help="queue: refuse when it is full; predicted: also what would be late.")
    ] = "queue",
    arrivals: Annotated[str, typer.Option(help="constant, poisson, diurnal or bursts.")] = "constant",
    low: Annotated[float, typer.Option(help="Active share at night, or between bursts.")] = 0.2,
    period: Annotated[str, typer.Option(help="Length of a day, or from burst to burst.")] = "24h",
    burst: Annotated[str, typer.Option(help="Length of a burst.")] = "5s",
    autoscale: Annotated[
        float | None,
        typer.Option(help="Add and remove servers so that they compute this share of their time."),
    ] = None,
    start_up: Annotated[str, typer.Option(help="With --autoscale: until a new server takes frames.")] = "30s",
    seed: Annotated[int, typer.Option(min=0)] = 1,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes [default: all cores].")] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Write tables and plots here.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Simulate a fleet of devices and its servers, or find how many servers it needs.

    Servers batch by the real server's rules. Installed with the extra `scale`, it is some ten times faster.
    """
    from isthmus.cli._simulate_fleet_world import FleetFlags, fleet_world
    from isthmus.runtime.server.config import usable_cores
    from isthmus.runtime.simulation.fleet import run_fleet, size_fleet

    world, notes = fleet_world(
        FleetFlags(
            target=target,
            devices=devices,
            servers=servers,
            fps=fps,
            deadline=deadline,
            duration=duration,
            links=tuple(link or ()),
            traces=tuple(trace or ()),
            policy=policy,
            regions=tuple(region or ()),
            payload_bytes=payload,
            compute=compute,
            tail_frame=tail_frame,
            tail_batch=tail_batch,
            max_batch=max_batch,
            queue_frames=queue,
            admission=admission,
            arrivals=arrivals,
            low=low,
            period=period,
            burst=burst,
            autoscale=autoscale,
            start_up=start_up,
            seed=seed,
        )
    )
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    jobs = jobs or usable_cores()
    sizing: Sizing | None = None
    with progress("simulating") as show:
        if servers is None and autoscale is None:
            sizing = size_fleet(
                world,
                hits,
                jobs=jobs,
                note=lambda trial: show(f"{trial.devices_per_server} devices a server"),
            )
        run = None if sizing is not None else run_fleet(world, jobs=jobs)
    written = _write(out_dir, world, run, sizing)
    if as_json:
        print_json({"notes": notes, **_result(world, run, sizing), "files": [str(file) for file in written]})
        return
    if sizing is not None:
        _print_sizing(world, sizing)
    if run is not None:
        _print_run(world, run)
    for file in written:
        out.print(str(file), markup=False, soft_wrap=True)


def _result(world: FleetWorld, run: FleetRun | None, sizing: Sizing | None) -> dict[str, Any]:
    from dataclasses import asdict

    result: dict[str, Any] = {
        "devices": world.devices,
        "fps": world.fps,
        "deadline_s": world.deadline_s,
        "tail": {"frame_s": world.service.frame_s, "batch_s": world.service.batch_s},
    }
    if sizing is not None:
        result["sizing"] = asdict(sizing)
    if run is not None:
        names = ("captured", "own", "quiet", "in_time", "late", "expired", "busy", "open", "batches")
        result["run"] = {name: getattr(run, name) for name in names} | {
            "servers": world.servers,
            "hit_share": run.hit_share,
            "throughput_per_s": run.throughput,
            "mean_batch": run.mean_batch,
            "utilisation": run.utilisation,
            "latency_p50_s": run.latency_s(0.5),
            "latency_p90_s": run.latency_s(0.9),
            "latency_p99_s": run.latency_s(0.99),
            "moments": [asdict(moment) for moment in run.moments],
        }
    return result


def _print_sizing(world: FleetWorld, sizing: Sizing) -> None:
    from rich.table import Table

    table = Table("devices a server", "servers", "in time", "busy", "batch", "p50", "p99", box=None)
    for column in table.columns:
        column.justify = "right"
    for trial in sizing.trials:
        table.add_row(
            str(trial.devices_per_server),
            str(-(-world.devices // trial.devices_per_server)),
            _share(trial.hit_share),
            f"{trial.utilisation:.0%}",
            f"{trial.mean_batch:.1f}",
            _seconds(trial.latency_p50_s),
            _seconds(trial.latency_p99_s),
        )
    out.print(table)
    wanted = f"{sizing.target:.2%} of the frames within {_seconds(world.deadline_s)}"
    if sizing.servers is None:
        out.print(
            f"no number of servers answers {wanted}: even alone on a server it is {_share(sizing.best)}; "
            "give a longer deadline, smaller payloads or better links",
            soft_wrap=True,
        )
        return
    out.print(
        f"{sizing.servers} servers answer {wanted} for {world.devices} devices at {world.fps:g} frames/s "
        "(lower end of the 95 % interval)",
        soft_wrap=True,
    )


def _print_run(world: FleetWorld, run: FleetRun) -> None:
    out.print(
        f"{run.captured} frames of {world.devices} devices in {run.seconds:g} s: "
        f"{run.hit_share:.2%} of those for a server answered in time",
        soft_wrap=True,
    )
    out.print(
        f"in time {run.in_time}, late {run.late}, expired {run.expired}, refused {run.busy}, kept back after "
        f"a refusal {run.quiet}, the device's own choice {run.own}, under way {run.open}",
        soft_wrap=True,
    )
    most = max((moment.servers for moment in run.moments), default=world.servers)
    out.print(
        f"{world.servers if world.autoscale is None else f'up to {most}'} servers compute "
        f"{run.utilisation:.0%} of their time in batches of {run.mean_batch:.1f}; answers after "
        f"{_seconds(run.latency_s(0.5))} (p50), {_seconds(run.latency_s(0.99))} (p99)",
        soft_wrap=True,
    )


def _write(folder: Path | None, world: FleetWorld, run: FleetRun | None, sizing: Sizing | None) -> list[Path]:
    if folder is None:
        return []
    from dataclasses import asdict

    from isthmus.cli._simulate_files import make_folder, plotted, write_csv, write_json
    from isthmus.cli._simulate_plots import plot_moments, plot_sizing

    make_folder(folder)
    files = [write_json(folder / "fleet.json", _result(world, run, sizing))]
    if sizing is not None:
        rows = [
            {
                **asdict(trial),
                "hit_share": trial.hit_share.mean,
                "hit_share_half_width": trial.hit_share.half_width,
            }
            for trial in sizing.trials
        ]
        files.append(write_csv(folder / "sizing.csv", rows))
        files += plotted(plot_sizing, world.devices, sizing, folder / "sizing.svg")
    if run is not None:
        files.append(write_csv(folder / "seconds.csv", [asdict(moment) for moment in run.moments]))
        files += plotted(plot_moments, run.moments, folder / "seconds.svg")
    return files


def _share(value: Any) -> str:
    spread = "" if value.half_width is None else f" ± {100 * value.half_width:.2f}"
    return f"{value.mean:.2%}{spread}"


def _seconds(value: float | None) -> str:
    from isthmus.runtime.units import format_duration

    return "–" if value is None else format_duration(value)
