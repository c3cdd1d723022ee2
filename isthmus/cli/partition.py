"""`isthmus partition`: where to cut a network for a device, a server and a link, or why not to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isthmus.cli._common import JsonFlag, console, out, print_json
from isthmus.runtime.errors import InputError
from isthmus.runtime.units import format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from isthmus.partitioner import Candidate, DeviceProfile, Plan
    from isthmus.runtime.datasets import ImageSet

_ROWS = 8


def command(
    model_file: Annotated[
        Path | None, typer.Argument(metavar="[MODEL.onnx]", help="The network, unless --model names one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A torch network instead: a name, or path/to/file.py:factory.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights of --model.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Real images: digits, npz:FILE or folder:DIR; tells what JPEG takes.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Of --model without --dataset.")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="HxWxC", help="Of --model without --dataset, e.g. 32x32x3.")
    ] = None,
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
        _network(model_file, model, weights, dataset, classes, image, keep_onnx) as source,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The ONNX file to cut, the torch modules behind its tensors, and real images."""

    path: Path
    modules: dict[str, str] | None
    images: ImageSet | None


@contextmanager
def _network(
    file: Path | None,
    model: str | None,
    weights: Path | None,
    dataset: str | None,
    classes: int | None,
    image: str | None,
    keep_onnx: Path | None,
) -> Iterator[_Source]:
    """Yield what to cut; a torch network is exported first, to `keep_onnx` or for the time of the command."""
    if (file is None) == (model is None):
        raise InputError("give either MODEL.onnx or --model NAME, one of them")
    if file is not None:
        if weights is not None or classes is not None or image is not None or keep_onnx is not None:
            raise InputError(
                "--weights, --classes, --image and --keep-onnx belong to --model, not to an ONNX file"
            )
        yield _Source(path=file, modules=None, images=_images_for(file, dataset))
        return
    assert model is not None
    images, shape_hwc, count = _torch_input(dataset, classes, image)
    with tempfile.TemporaryDirectory(prefix="isthmus-partition-") as folder:
        path = keep_onnx or Path(folder) / (Path(model.rpartition(":")[0] or model).stem + ".onnx")
        with console.status(f"exporting {model}"):
            modules = _export(model, weights, shape_hwc, count, path)
        yield _Source(path=path, modules=modules, images=images)


def _images_for(file: Path, dataset: str | None) -> ImageSet | None:
    """Return images of `dataset` in the size that the ONNX file takes."""
    if dataset is None:
        return None
    from isthmus.partitioner import input_image_shape
    from isthmus.runtime.datasets import load_dataset

    shape = input_image_shape(file)
    if shape is None:
        raise InputError(f"{file}: takes no image, so --dataset {dataset} does not apply; leave it out")
    return load_dataset(dataset, split="test", size=shape[:2], limit=64)


def _torch_input(
    dataset: str | None, classes: int | None, image: str | None
) -> tuple[ImageSet | None, tuple[int, int, int], int]:
    """Return images, image shape (H, W, C) and number of classes of a torch network."""
    if dataset is not None:
        from isthmus.runtime.datasets import load_dataset

        images = load_dataset(dataset, split="test", limit=64)
        return images, images.shape_hwc, len(images.classes)
    if classes is None or image is None:
        raise InputError("--model needs --dataset, or --classes N with --image HxWxC")
    sizes = image.split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise InputError(f"--image {image!r}: give height, width and channels, e.g. 32x32x3")
    height, width, channels = map(int, sizes)
    return None, (height, width, channels), classes


def _export(
    model: str, weights: Path | None, shape_hwc: tuple[int, int, int], count: int, path: Path
) -> dict[str, str]:
    """Export the torch network to `path`; return the module path of every cut that training can use."""
    import torch

    from isthmus.models.backbones import load_weights, make_model
    from isthmus.models.cutting import list_cuts as list_sites
    from isthmus.models.teacher_export import export_onnx, match_cuts
    from isthmus.partitioner import list_cuts

    height, width, channels = shape_hwc
    module = make_model(model, count, channels, image_size=(height, width)).eval()
    if weights is not None:
        load_weights(module, weights)
    example_nchw = torch.zeros(1, channels, height, width)
    sites = list_sites(module, example_nchw)
    export_onnx(module, example_nchw, path)
    matched = match_cuts(module, path, [fact.name for fact in list_cuts(path)])
    known = {name: site.name for site in sites for name in (site.name, *site.aliases)}
    return {tensor: known[name] for tensor, name in matched.items() if name in known}


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
