"""`isthmus export`: a checkpoint in, a bundle out that both ends load; other servers' files besides."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from isthmus.cli._common import JsonFlag, console, out, print_json
from isthmus.cli._export_servers import (
    MaxBatchFlag,
    MlserverFlag,
    ServerFiles,
    TritonBackendFlag,
    TritonFlag,
    export_for_servers,
    flags_given,
    is_bundle,
    print_servers,
)
from isthmus.cli._export_zoo import (
    NotesFlag,
    Source,
    ToZooFlag,
    ZooFlag,
    print_entry,
    read_notes,
    through_entry,
    write_card,
)
from isthmus.cli._progress import progress
from isthmus.runtime.datasets import SPEC_HELP

if TYPE_CHECKING:
    from isthmus.runtime.bundle import Bundle

# As `models.head_choice` takes them; that module is heavy to import.
Heads = Literal["fp32", "int8", "auto"]
# Accuracy on a few hundred images varies by a point or two for no reason.
_OPTIMISM = 0.04


def command(
    context: typer.Context,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="Checkpoint of 'isthmus train', or its --out directory. With --triton or --mlserver also a "
            "bundle, which is left as it is."
        ),
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Directory of the bundle; a bundle there is replaced.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help=f"The images it was trained on ({SPEC_HELP}); needed whole, as for training."),
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Images whose accuracy is noted; nothing is chosen or fitted by them.")
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Images for the utilities that policies read, instead of those training held out: for a "
            "network that was trained elsewhere and knows the training images by heart."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the uncut network, if the checkpoint leaves them out.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="The plan it was trained by: refused if it chose another cut, else noted."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Model name on the wire [default: the network's].")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Carry the uncut network too, for the device.")
    ] = False,
    torch_tail: Annotated[
        bool, typer.Option("--torch", help="Carry the tail for 'isthmus serve --backend torch' too.")
    ] = False,
    heads: Annotated[
        Heads,
        typer.Option(
            help="Arithmetic of the heads: int8 wherever that costs at most 0.3 points; auto: where it is "
            "also faster on this machine."
        ),
    ] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="Threads per network when timing heads.")] = 1,
    zoo: ZooFlag = None,
    to_zoo: ToZooFlag = None,
    notes: NotesFlag = None,
    triton: TritonFlag = None,
    mlserver: MlserverFlag = None,
    triton_backend: TritonBackendFlag = "onnxruntime",
    max_batch: MaxBatchFlag = 32,
    as_json: JsonFlag = False,
) -> None:
    """Export a trained bottleneck as a bundle: ONNX files, frequency tables, measured points, golden vectors.

    Every exported file is compared with the torch module it comes from. The frequency tables are fitted on
    training images, the utilities that policies read are measured on images held out of training; 'isthmus
    eval' gives the accuracy on test images.

    --zoo takes a trained bottleneck that comes with the package: the uncut network's weights and images are
    yours, the rest is made again in a minute or two.

    The tail alone may be served by Triton or MLServer: --triton and --mlserver write what they need, of the
    bundle just made or of an older one. Agents send them plain latents.
    """
    from isthmus.runtime.errors import InputError

    files = ServerFiles(triton=triton, mlserver=mlserver, triton_backend=triton_backend, max_batch=max_batch)
    files.check()
    if (checkpoint is None) == (zoo is None):
        raise InputError("export takes a checkpoint or --zoo NAME; give one of the two")
    if checkpoint is not None and is_bundle(checkpoint):
        export_for_servers(checkpoint, files, flags_given(context), as_json=as_json)
        return
    if out_dir is None or dataset is None:
        raise InputError(
            f"{checkpoint or zoo}: a checkpoint is exported with --out DIR and --dataset SPEC; give both"
        )
    text = read_notes(notes, to_zoo)
    from isthmus.models.allocator import kept_memory
    from isthmus.models.export import export_bundle
    from isthmus.runtime.datasets import ImageSet, load_prepared

    started = time.monotonic()
    network, facts = Source(checkpoint=checkpoint, zoo=zoo, to_zoo=to_zoo, weights=weights).load()
    if plan is not None:
        facts = {**facts, "plan": _plan_reason(plan, network.config.cut)}
    size = (network.config.input_height, network.config.input_width)

    def load(spec: str, split: Any) -> ImageSet:
        return load_prepared(spec, split=split, size=size, arrays_too="size" in facts)

    storage = None
    # Latents of thousands of images come and go.
    with kept_memory(), progress("reading images") as show:
        train_images = load(dataset, "train")
        test_images = load(test, "test") if test is not None else None
        calibration_images = load(calibration, "test") if calibration is not None else None
        if to_zoo is not None and weights is not None:
            show("writing the entry of the zoo")
            network, facts, storage = through_entry(network, facts, to_zoo, weights, train_images)
        show("exporting")
        bundle = export_bundle(
            network,
            out_dir,
            train=train_images,
            test=test_images,
            calibration=calibration_images,
            name=name,
            facts=facts,
            local=local,
            torch_tail=torch_tail,
            heads=heads,
            threads=threads,
            progress=lambda what: show(f"exporting: {what}"),
        )
    seconds = time.monotonic() - started
    note = optimism(bundle)
    if note is not None:
        console.print(f"note: {note}", soft_wrap=True)
    if to_zoo is not None and storage is not None:
        write_card(to_zoo, network, facts, bundle, storage, test=test_images, notes=text)
    written = files.write(bundle)
    if as_json:
        print_json({**summary(bundle, seconds), "servers": written})
    else:
        _print(bundle, seconds)
        if to_zoo is not None and storage is not None:
            print_entry(to_zoo, storage)
        print_servers(written)


def _plan_reason(plan: Path, cut: str) -> str:
    """Return why `plan` chose the cut.

    Raises:
        PlanError: If it chose another one.
    """
    from isthmus.partitioner.plan_file import read_plan
    from isthmus.runtime.errors import PlanError

    choice = read_plan(plan).choice
    if choice.module != cut:
        chosen = choice.module or choice.cut or choice.kind
        raise PlanError(f"{plan}: chose {chosen!r}, the checkpoint was trained at {cut!r}; give its own plan")
    return choice.reason


def optimism(bundle: Bundle) -> str | None:
    """Return a note if the uncut network knows the images that utilities were measured on, else None.

    Networks trained elsewhere were mostly trained on the whole public training set, held-out images included.
    """
    test = bundle.manifest.provenance.get("test_teacher_accuracy")
    measured = bundle.points.teacher_utility
    if test is None or measured - float(test) < _OPTIMISM:
        return None
    return (
        f"the uncut network is right on {measured:.1%} of the images that utilities are measured on, but on "
        f"{float(test):.1%} of the test images: it was trained on the former, so all utilities are too "
        "high; give --calibration images that it has not seen"
    )


def summary(bundle: Bundle, seconds: float) -> dict[str, Any]:
    """Return what `--json` prints of an exported bundle."""
    import msgspec

    return {
        "bundle": str(bundle.root),
        "name": bundle.manifest.name,
        "digest": bundle.digest,
        "seconds": round(seconds, 2),
        "points": msgspec.to_builtins(bundle.points),
        "provenance": bundle.manifest.provenance,
    }


def _print(bundle: Bundle, seconds: float) -> None:
    from rich.table import Table

    table = Table("width", "channels", "utility", "bytes", "p95", "head", box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for record in bundle.points.records:
        table.add_row(
            f"{bundle.manifest.widths[record.point.width_index]:g}",
            str(record.point.channels),
            f"{record.utility:.1%}",
            f"{record.bytes_mean:.0f}",
            f"{record.bytes_p95:.0f}",
            f"{record.head_s * 1e3:.2f} ms",
        )
    out.print(table)
    points, facts = bundle.points, bundle.manifest.provenance
    for choice in facts.get("heads", "").split("; "):
        if choice:
            out.print(choice, soft_wrap=True)
    out.print(
        f"utilities on {points.measured_on}; times on {points.host}; uncut {points.teacher_utility:.1%}"
    )
    if "test_set" in facts:
        out.print(
            f"{facts['test_set']}: uncut {float(facts['test_teacher_accuracy']):.1%}, "
            f"widest point {float(facts['test_widest_accuracy']):.1%}"
        )
    out.print(f"{bundle.root}: bundle '{bundle.manifest.name}', verified, {seconds:.1f} s", soft_wrap=True)
