"""`isthmus partition`: where to cut a network for a device, a server and a link, or why not to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from isthmus.cli._common import JsonFlag, out, print_json
from isthmus.cli._group import verb_group
from isthmus.cli._network_source import (
    ClassesOption,
    DatasetOption,
    DimOption,
    ImageOption,
    ModelArgument,
    ModelOption,
    WeightsOption,
    network_source,
)
from isthmus.cli._partition_profile import profile
from isthmus.cli._progress import progress

_MACHINE = "this, a file of 'isthmus partition profile', or a reference: pi4, edge-2500, cloud-6700k"


def make_plan(
    model_file: ModelArgument = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    dataset: DatasetOption = None,
    classes: ClassesOption = None,
    image: ImageOption = None,
    dim: DimOption = None,
    device: Annotated[str, typer.Option(help=f"The device: {_MACHINE}.")] = "this",
    server: Annotated[str, typer.Option(help="The server, likewise.")] = "this",
    device_speed: Annotated[
        float, typer.Option(help="If the device is this machine: 0.1 takes it to be ten times slower.")
    ] = 1.0,
    server_speed: Annotated[float, typer.Option(help="The server's, likewise.")] = 1.0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of an inference on the device; default 1.")
    ] = None,
    server_threads: Annotated[
        int | None, typer.Option(min=1, help="On the server; default: as on the device.")
    ] = None,
    power: Annotated[
        str | None,
        typer.Option(metavar="IDLE,COMPUTE,TRANSMIT", help="Watts of the device, the last two above idle."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", "--link", help="Of the link, e.g. 1.5Mbit; 0bit is dead. [default: 1Mbit]"),
    ] = None,
    rtt: Annotated[str, typer.Option(help="Of the link, e.g. 20ms.")] = "20ms",
    trace: Annotated[
        str | None, typer.Option(help="The link's rate over time instead: a file, outage, step:… …")
    ] = None,
    objective: Annotated[
        str, typer.Option(help="latency, energy, throughput, on-time or weighted:ALPHA,BETA.")
    ] = "latency",
    choose: Annotated[
        Literal["best", "bottleneck"],
        typer.Option(help="The best way, or the best place to train a bottleneck."),
    ] = "best",
    deadline: Annotated[str | None, typer.Option(help="Budget of a frame, e.g. 100ms.")] = None,
    on_time: Annotated[float, typer.Option(help="Share of frames that have to meet it over a trace.")] = 0.95,
    memory: Annotated[
        str | None, typer.Option(help="Most memory on the device, e.g. 64MB; default: its profile's.")
    ] = None,
    no_raw_input: Annotated[
        bool, typer.Option("--no-raw-input", help="No input of the network may leave the device.")
    ] = False,
    pin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SIDE",
            help="Run a node (by a tensor it makes) or all of an operator type on device or server.",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Cut only at this tensor, module or NAME+NAME; may be repeated."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A trained bottleneck of this network, weighed too.")
    ] = None,
    bundle_cut: Annotated[
        str | None, typer.Option(metavar="NAME", help="The tensor it was trained at, if MODEL is a file.")
    ] = None,
    max_accuracy_loss: Annotated[
        float, typer.Option(help="A trained bottleneck that loses more is not chosen.")
    ] = 0.02,
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
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")] = None,
    heads_and_tails: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for head.onnx and tail.onnx of every measured cut."),
    ] = None,
    keep_onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to keep the export of --model.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find the best cut of a network for a device, a server and a link, or say not to split."""
    from isthmus.cli import _partition_flags as flags
    from isthmus.partitioner import BottleneckAssumption, partition, write_plan
    from isthmus.runtime.units import parse_bytes, parse_duration_s

    here_threads = threads or 1
    asked: dict[str, Any] = {
        "link": flags.link(rate, rtt, trace),
        "device": flags.machine(device, "device", speed=device_speed, threads=threads),
        "server": flags.machine(
            server, "server", speed=server_speed, threads=server_threads, default_threads=here_threads
        ),
        "objective": flags.objective(objective),
        "power": flags.power(power),
        "pins": flags.pins(pin),
        "sizes": flags.sizes(dim),
        "deadline_s": None if deadline is None else parse_duration_s(deadline),
        "device_memory_bytes": None if memory is None else parse_bytes(memory),
        "assumption": BottleneckAssumption(encoder_fraction=encoder_fraction, payload_bytes=bottleneck_bytes),
        "budget_s": parse_duration_s(budget),
    }
    picture = flags.plot_file(plot)
    with (
        network_source(
            model_file, model, weights, dataset, classes, image, keep_onnx, asked["sizes"]
        ) as source,
        progress(f"measuring node costs and up to {measured_cuts} cuts"),
    ):
        plan = partition(
            source.path,
            **asked,
            choose=choose,
            deadline_probability=on_time,
            no_raw_input=no_raw_input,
            allowed=allow,
            bundle=bundle,
            bundle_cut=bundle_cut,
            max_accuracy_loss=max_accuracy_loss,
            modules=source.modules,
            images_nhwc=None if source.images is None else source.images.images,
            jpeg_quality=jpeg_quality,
            measured_cuts=measured_cuts,
            halves_folder=heads_and_tails,
        )
    write_plan(plan_file, plan)
    if picture is not None:
        from isthmus.cli._partition_plot import draw

        draw(plan, picture)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(plan))
        return
    from isthmus.cli._partition_table import print_plan

    print_plan(plan)
    out.print(f"{plan_file}: {len(plan.candidates)} candidates", soft_wrap=True, markup=False)


app = verb_group(
    "plan",
    {"plan": make_plan, "profile": profile},
    "Find the best cut of a network, or measure what networks cost on this machine.",
)
