"""`isthmus train`: a network, images and a cut in; a checkpoint of a slimmable bottleneck out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from isthmus.cli._common import JsonFlag, console, out, print_json
from isthmus.runtime.errors import InputError, PlanError

if TYPE_CHECKING:
    from torch import nn

    from isthmus.models.evaluate import Evaluation, PointResult
    from isthmus.models.network import SplitNetwork
    from isthmus.models.progress import TrainProgress
    from isthmus.runtime.datasets import ImageSet


def command(
    dataset: Annotated[str, typer.Option(help="Training images: digits, npz:FILE or folder:DIR.")],
    out_dir: Annotated[
        Path, typer.Option("--out", help="Directory for checkpoint, resumable state and metrics.")
    ],
    model: Annotated[str, typer.Option(help="Network to cut, or path/to/file.py:factory.")] = "digits-cnn",
    weights: Annotated[
        Path | None, typer.Option(help="Its weights; without, it is trained here first.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Images for the final figures; never trained on.")] = None,
    cut: Annotated[str | None, typer.Option(help="Module whose output is the cut.")] = None,
    plan: Annotated[Path | None, typer.Option(help="plan.json that names the cut.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 30,
    teacher_epochs: Annotated[
        int, typer.Option(min=1, help="Passes to train a network without weights.")
    ] = 12,
    batch_size: Annotated[int, typer.Option(min=2)] = 128,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 2e-3,
    tail_learning_rate: Annotated[float, typer.Option(min=0.0, help="With --tune-tail.")] = 2e-4,
    temperature: Annotated[float, typer.Option(min=0.1, help="Softens the teacher's answers.")] = 2.0,
    tune_tail: Annotated[bool, typer.Option(help="Adapt the layers after the cut as well.")] = False,
    target_bytes: Annotated[
        float | None, typer.Option(min=1, help="Steer the rate price to a latent of so many bytes.")
    ] = None,
    rate_price: Annotated[float, typer.Option(min=0.0, help="First or fixed price, in loss per bit.")] = 2e-5,
    channels: Annotated[int, typer.Option(min=1, help="Latent channels.")] = 16,
    channel_counts: Annotated[str | None, typer.Option(help="Prefixes offered, e.g. 2,4,8,16.")] = None,
    widths: Annotated[str, typer.Option(help="Compute fractions of the encoder.")] = "0.25,0.5,0.75,1",
    encoder: Annotated[str, typer.Option(help="CHANNELSxBLOCKS per stride-2 stage.")] = "48x1,96x1",
    decoder: Annotated[str, typer.Option(help="CHANNELSxBLOCKS of the server's decoder.")] = "128x2",
    exit_channels: Annotated[int, typer.Option(min=0, help="Of the early exit; 0 for none.")] = 64,
    mean: Annotated[
        str | None, typer.Option(help="The network's normalisation, e.g. 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    augment: Annotated[
        Literal["none", "shift", "shift-flip"], typer.Option(help="By up to an eighth of the image.")
    ] = "shift",
    validation: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Training images held out, for the utilities that 'isthmus export' measures, and measured "
            "each epoch here if given [default: an eighth, at most 1000].",
        ),
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="auto: bfloat16 where the CPU has it.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    max_minutes: Annotated[float | None, typer.Option(min=0.01, help="End by then, annealed.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    teacher_inside: Annotated[
        bool, typer.Option("--teacher-inside/--no-teacher-inside", help="Keep its weights in the checkpoint.")
    ] = True,
    as_json: JsonFlag = False,
) -> None:
    """Train a slimmable bottleneck at a cut, by distillation from the uncut network."""
    import torch

    from isthmus.models import run_state
    from isthmus.models.augment import Augmentation
    from isthmus.models.design import BottleneckSize, design
    from isthmus.models.evaluate import evaluate
    from isthmus.models.network import SplitNetwork, save_checkpoint
    from isthmus.models.train import TrainSettings, train_bottleneck
    from isthmus.runtime.datasets import load_dataset

    if threads is not None:
        torch.set_num_threads(threads)
    if not resume:
        run_state.check_fresh(out_dir)
    images = load_dataset(dataset, split="train")
    test_images = load_dataset(test, split="test") if test is not None else None
    cut_name = _cut(cut, plan)
    size = BottleneckSize(
        channels=channels,
        channel_counts=_numbers(channel_counts, int, "--channel-counts") if channel_counts else None,
        encoder=_stages(encoder, "--encoder"),
        decoder_channels=_stages(decoder, "--decoder")[0][0],
        decoder_blocks=_stages(decoder, "--decoder")[0][1],
        exit_channels=exit_channels,
        widths=_numbers(widths, float, "--widths"),
    )
    means = _numbers(mean, float, "--mean") if mean else None
    stds = _numbers(std, float, "--std") if std else None
    shift = 0 if augment == "none" else max(1, images.shape_hwc[0] // 8)
    settings = TrainSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        tail_learning_rate=tail_learning_rate,
        temperature=temperature,
        target_bits=8 * target_bytes if target_bytes is not None else None,
        rate_price=rate_price,
        augmentation=Augmentation(shift=shift, flip=augment == "shift-flip"),
        precision=_precision(precision),
        seed=seed,
    )
    torch.manual_seed(seed)
    trained, held_out = _hold_out(images, validation)
    teacher = _teacher(model, weights, trained, teacher_epochs, seed, out_dir, resume, (means, stds))
    torch.manual_seed(seed)
    config = design(
        model,
        teacher,
        cut=cut_name,
        shape_hwc=images.shape_hwc,
        labels=images.classes,
        size=size,
        mean=means,
        std=stds,
        tail_tuned=tune_tail,
    )
    network = SplitNetwork(config, teacher)
    with _Progress(network, trained, held_out if validation else None, out_dir) as bar:
        result = train_bottleneck(
            network,
            trained,
            settings,
            out=out_dir,
            resume=resume,
            max_minutes=max_minutes,
            progress=bar.step,
            epoch_done=bar.epoch,
        )
    facts = {
        "command": " ".join(["isthmus", *sys.argv[1:]]),
        "data": trained.name,
        "held_out": str(len(held_out) if held_out is not None else 0),
        "images": str(len(trained)),
        "seconds": f"{result.elapsed_s:.0f}",
        "steps": str(result.steps),
        "torch": str(torch.__version__),
        "threads": str(torch.get_num_threads()),
        "precision": settings.precision,
    }
    checkpoint = out_dir / run_state.CHECKPOINT
    save_checkpoint(network, checkpoint, with_teacher=teacher_inside, facts=facts)
    evaluation = evaluate(network, test_images) if test_images is not None else None
    _report(network, checkpoint, facts, evaluation, test_images, as_json)


class _Progress:
    """A progress bar with the time left, and a line after each epoch, with held-out accuracy if asked for."""

    def __init__(
        self, network: SplitNetwork, trained: ImageSet, held_out: ImageSet | None, out_dir: Path
    ) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._network, self._trained, self._held_out, self._out = network, trained, held_out, out_dir
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("training", total=1.0, state="")

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, now: TrainProgress) -> None:
        self._last = now
        self._bar.update(self._task, completed=now.fraction, state=self._state())

    def epoch(self, number: int) -> None:
        line = self._state()
        if self._held_out is not None:
            from isthmus.models.evaluate import evaluate
            from isthmus.models.run_state import METRICS, append_metrics
            from isthmus.models.train import calibrate

            calibrate(self._network, self._trained)
            ends = sorted({0, len(self._network.config.widths) - 1})
            points = evaluate(self._network, self._held_out, width_indices=ends).points
            record = [[p.width_index, p.channels, p.accuracy, round(p.entropy_bytes, 1)] for p in points]
            append_metrics(self._out / METRICS, {"epoch": number, "held_out": record})
            line += f"  held-out {_point(points[-1])}, narrowest {_point(points[0])}"
        console.print(line, soft_wrap=True)

    def _state(self) -> str:
        now = self._last
        parts = "  ".join(f"{name} {value:.3f}" for name, value in now.terms.items())
        size = "" if now.bits is None else f"  {now.bits / 8:.0f} B"
        clock = f"{now.elapsed_s:.0f} s, {now.remaining_s:.0f} s left"
        return f"epoch {now.epoch + 1}/{now.epochs}  {parts}{size}  {clock}"


def _point(point: PointResult) -> str:
    return f"{100 * point.accuracy:.1f} % at {point.entropy_bytes:.0f} B"


def _cut(cut: str | None, plan: Path | None) -> str:
    if (cut is None) == (plan is None):
        raise PlanError("give either --cut NAME or --plan plan.json")
    if cut is not None:
        return cut
    from isthmus.partitioner.plan import read_plan

    assert plan is not None
    choice = read_plan(plan).choice
    if choice.module is None:
        raise PlanError(
            f"{plan}: chose '{choice.kind}' ({choice.reason}) and names no torch module; give --cut NAME"
        )
    return choice.module


def _teacher(
    model: str,
    weights: Path | None,
    images: ImageSet,
    epochs: int,
    seed: int,
    out_dir: Path,
    resume: bool,
    normalisation: tuple[tuple[float, ...] | None, tuple[float, ...] | None],
) -> nn.Module:
    """Return the teacher with its weights, trained here (and kept in `out_dir`) if none are given."""
    import torch

    from isthmus.models.backbones import load_weights, make_model
    from isthmus.models.teacher import TeacherSettings, train_teacher

    kept = out_dir / "teacher.pt"
    if weights is None and resume and kept.exists():
        weights = kept
    if weights is not None:
        teacher = make_model(model, len(images.classes), images.shape_hwc[2])
        load_weights(teacher, weights)
        return teacher.eval()
    console.print(f"no --weights: training {model} for {epochs} epochs first")
    mean, std = normalisation
    teacher = train_teacher(model, images, TeacherSettings(epochs=epochs, seed=seed, mean=mean, std=std))
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.save(teacher.state_dict(), kept)
    return teacher


def _hold_out(images: ImageSet, count: int | None) -> tuple[ImageSet, ImageSet | None]:
    # The same function as the export's, which must measure exactly the images that were not trained on.
    from isthmus.runtime.datasets import hold_out

    return (images, None) if count == 0 else hold_out(images, count)


def _precision(asked: Literal["auto", "float32", "bfloat16"]) -> Literal["float32", "bfloat16"]:
    import torch

    if asked != "auto":
        return asked
    return "bfloat16" if torch.cpu.get_capabilities().get("avx512_bf16", False) else "float32"


def _numbers(text: str, kind: type[Any], flag: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{flag} {text!r}: give numbers separated by commas") from None


def _stages(text: str, flag: str) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [part.split("x") for part in text.split(",")]
        stages = tuple((int(channels), int(blocks)) for channels, blocks in pairs)
    except ValueError:
        stages = ()
    if not stages or any(channels < 4 or blocks < 0 for channels, blocks in stages):
        raise InputError(f"{flag} {text!r}: give CHANNELSxBLOCKS, at least 4 channels, as in 48x1,96x1")
    return stages


def _report(
    network: SplitNetwork,
    checkpoint: Path,
    facts: dict[str, str],
    evaluation: Evaluation | None,
    images: ImageSet | None,
    as_json: bool,
) -> None:
    rows = [
        {
            "width": network.config.widths[point.width_index],
            "channels": point.channels,
            "accuracy": point.accuracy,
            "entropy_bytes": point.entropy_bytes,
        }
        for point in (evaluation.points if evaluation else ())
    ]
    if as_json:
        result: dict[str, Any] = {"checkpoint": str(checkpoint), **facts, "points": rows}
        if evaluation is not None and images is not None:
            result |= {
                "measured_on": images.name,
                "teacher": evaluation.teacher,
                "exits": list(evaluation.exits),
            }
        print_json(result)
        return
    if evaluation is not None and images is not None:
        from rich.table import Table

        table = Table(
            title=f"{images.name}, {len(images)} images; uncut network {100 * evaluation.teacher:.1f} %"
        )
        for title in ("width", "channels", "accuracy %", "bytes (ideal code)"):
            table.add_column(title, justify="right")
        for row in rows:
            cells = (f"{row['width']:g}", f"{row['channels']}", f"{100 * row['accuracy']:.1f}")
            table.add_row(*cells, f"{row['entropy_bytes']:.0f}")
        out.print(table)
        if evaluation.exits:
            out.print(
                "early exit per width: " + ", ".join(f"{100 * value:.1f} %" for value in evaluation.exits)
            )
    out.print(f"{checkpoint}  (trained in {facts['seconds']} s; export it with 'isthmus export')")
