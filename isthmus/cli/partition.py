"""`isthmus partition`: where to cut a network for a device, a server and a link, or why not to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isthmus.cli._common import JsonFlag, console, out, print_json
from isthmus.cli._group import verb_group
from isthmus.cli._network_source import (
    ClassesOption,
    DatasetOption,
    ImageOption,
    ModelArgument,
    ModelOption,
    WeightsOption,
    network_source,
)
from isthmus.cli._partition_profile import profile
from isthmus.runtime.units import format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from isthmus.partitioner import Candidate, DeviceProfile, Plan

_ROWS = 8


def make_plan(
    model_file: ModelArgument = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    dataset: DatasetOption = None,
    classes: ClassesOption = None,
    image: ImageOption = None,
    rate: Annotated[str, typer.Option(help="Of the link, e.g. 1.5Mbit; 0bit is a dead link.")] = "1Mbit",
    rtt: Annotated[str, typer.Option(help="Of the link, e.g. 20ms.")] = "20ms",
    device_speed: Annotated[
        float, typer.Option(help="The device's speed: 0.1 is ten times slower than this machine.")
    ] = 1.0,
    server_speed: Annotated[float, typer.Option(help="The server's, likewise.")] = 1.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of an inference on the device.")] = 1,
    server_threads: Annotated[
        int | None, typer.Option(min=1, help="On the server; default: as on the device.")
    ] = None,
    deadline: Annotated[str | None, typer.Option(help="Budget of a frame, e.g. 100ms.")] = None,
    choose: Annotated[
        Literal["latency", "bottleneck"],
        typer.Option(help="The fastest way, or the best place to train a bottleneck."),
    ] = "latency",
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Cut only at this tensor or module; may be repeated."),
    ] = None,
    bottleneck_bytes: Annotated[
        int | None,
        typer.Option(help="Payload assumed for a bottleneck; default: 1/16 of its tensor in uint8."),
    ] = None,
    encoder_fraction: Annotated[
        float,
        typer.Option(help="Device time assumed for an encoder, as a share of the head.", show_default="1/3"),
    ] = 1 / 3,
    jpeg_quality: Annotated[int, typer.Option(help="Of the images of --dataset, 1..95.")] = 90,
    measured_cuts: Annotated[int, typer.Option(min=0, help="Cuts to rebuild and time; 0: predict only.")] = 5,
    budget: Annotated[str, typer.Option(help="Time to spend on measuring, about.")] = "6s",
    plan_file: Annotated[Path, typer.Option("--out", help="The plan to write.")] = Path("plan.json"),
    heads_and_tails: Annotated[
        Path | None, typer.Option(help="Folder for head.onnx and tail.onnx of every measured cut.")
    ] = None,
    keep_onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to keep the export of --model.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the best cut of a network for a device, a server and a link, or say not to split."""
    from isthmus.partitioner import BottleneckAssumption, DeviceProfile, LinkProfile, partition, write_plan
    from isthmus.runtime.units import parse_duration_s, parse_rate_bytes_per_s

    link = LinkProfile(rate_bytes_per_s=parse_rate_bytes_per_s(rate), rtt_s=parse_duration_s(rtt))
    device = DeviceProfile(name="device", threads=threads, speed=device_speed)
    server = DeviceProfile(name="server", threads=server_threads or threads, speed=server_speed)
    assumption = BottleneckAssumption(encoder_fraction=encoder_fraction, payload_bytes=bottleneck_bytes)
    deadline_s = None if deadline is None else parse_duration_s(deadline)
    budget_s = parse_duration_s(budget)
    with (
        network_source(model_file, model, weights, dataset, classes, image, keep_onnx) as source,
        console.status(f"measuring node costs and up to {measured_cuts} cuts"),
    ):
        plan = partition(
            source.path,
            link=link,
            device=device,
            server=server,
            deadline_s=deadline_s,
            choose=choose,
            allowed=allow,
            modules=source.modules,
            assumption=assumption,
            images_nhwc=None if source.images is None else source.images.images,
            jpeg_quality=jpeg_quality,
            measured_cuts=measured_cuts,
            budget_s=budget_s,
            halves_folder=heads_and_tails,
        )
    write_plan(plan_file, plan)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(plan))
        return
    _print(plan)
    out.print(f"{plan_file}: {len(plan.candidates)} candidates", soft_wrap=True, markup=False)


def _print(plan: Plan) -> None:
    from rich.table import Table

    cuts = sum(item.kind == "split" for item in plan.candidates)
    out.print(
        f"{plan.model}: {cuts} cuts; {_machine(plan.device)}; {_machine(plan.server)}; "
        f"link {format_rate(plan.link.rate_bytes_per_s)}, RTT {format_duration(plan.link.rtt_s)}",
        markup=False,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("way", no_wrap=True)
    table.add_column("cut", no_wrap=True, overflow="ellipsis")
    for title in ("bytes", "head ms", "link ms", "tail ms", "total ms"):
        table.add_column(title, justify="right", no_wrap=True)
    for index in _shown(plan):
        item = plan.candidates[index]
        times = item.times
        table.add_row(
            ">" if index == plan.choice.candidate else "",
            item.kind + ("*" if item.kind == "bottleneck" else "") + ("" if item.measured else "~"),
            item.module or item.cut or item.encoding,
            format_bytes(item.payload_bytes) if item.payload_bytes else "0",
            *(_ms(seconds) for seconds in (times.device_s, times.link_s, times.server_s, times.total_s)),
        )
    out.print(table)
    notes = ["* encoder, decoder and bytes assumed"] if cuts else []
    if any(plan.candidates[index].measured is None for index in _shown(plan)):
        notes.append("~ predicted from node costs, not run")
    if notes:
        out.print("; ".join(notes))
    out.print(f"{plan.choice.reason[0].upper()}{plan.choice.reason[1:]}.", style="bold", markup=False)


def _shown(plan: Plan) -> list[int]:
    """Return the candidates worth a row: the choice, the endpoints, then the fastest cuts, fastest first."""

    def total(item: Candidate) -> float:
        return float("inf") if item.times.total_s is None else item.times.total_s

    open_ones = [index for index, item in enumerate(plan.candidates) if item.refused is None]
    order = sorted(open_ones, key=lambda index: total(plan.candidates[index]))
    must = [
        index
        for index in order
        if index == plan.choice.candidate or plan.candidates[index].kind in ("local", "offload")
    ]
    # Where cuts were measured, predictions would only repeat their neighbours.
    measured = [index for index in order if plan.candidates[index].measured is not None]
    rest = [index for index in (measured or order) if index not in must]
    kept = {*must, *rest[: _ROWS - len(must)]}
    return [index for index in order if index in kept]


def _machine(profile: DeviceProfile) -> str:
    speed = "" if profile.source == "measured" else f" at {profile.speed:g}x its speed (scaled)"
    return f"{profile.name} = this machine{speed}, {profile.threads} thread{'s' * (profile.threads > 1)}"


def _ms(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


app = verb_group(
    "plan",
    {"plan": make_plan, "profile": profile},
    "Find the best cut of a network, or measure what networks cost on this machine.",
)
