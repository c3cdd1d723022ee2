"""`isthmus train`: a network, images and a cut in; a checkpoint of a slimmable bottleneck out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isthmus.cli._common import JsonFlag, console

if TYPE_CHECKING:
    from torch import nn

    from isthmus.models.config import SplitConfig
    from isthmus.models.train import TrainSettings
    from isthmus.runtime.datasets import ImageSet

Augment = Literal["none", "shift", "shift-flip"]
Precision = Literal["auto", "float32", "bfloat16"]


def command(
    dataset: Annotated[str, typer.Option(help="Training images: digits, npz:FILE or folder:DIR.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Directory for checkpoint, state and metrics.")],
    model: Annotated[str, typer.Option(help="Network to cut, or path/to/file.py:factory.")] = "digits-cnn",
    weights: Annotated[Path | None, typer.Option(help="Its weights; without, it is trained first.")] = None,
    test: Annotated[str | None, typer.Option(help="Images for the final figures; never trained on.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Bring images to HEIGHTxWIDTH, cropped at the centre.")
    ] = None,
    cut: Annotated[str | None, typer.Option(help="Module whose output is the cut.")] = None,
    plan: Annotated[Path | None, typer.Option(help="plan.json that names the cut.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    exit_epochs: Annotated[int | None, typer.Option(min=0, help="Passes for the early exit alone.")] = None,
    teacher_epochs: Annotated[
        int, typer.Option(min=0, help="Passes for a network without --weights; 0: it comes trained.")
    ] = 12,
    batch_size: Annotated[int | None, typer.Option(min=2)] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0, help="Peak rate.")] = None,
    tail_learning_rate: Annotated[float, typer.Option(min=0.0, help="With --tune-tail.")] = 3e-5,
    answer_weight: Annotated[
        float, typer.Option(min=0.0, help="Of the network's answers against its features.")
    ] = 0.25,
    temperature: Annotated[float, typer.Option(min=0.1, help="Softens the network's answers.")] = 2.0,
    tune_tail: Annotated[bool, typer.Option("--tune-tail", help="Adapt the layers after the cut.")] = False,
    target_bytes: Annotated[
        float | None, typer.Option(min=1, help="Mean bytes of a whole latent that the rate price steers to.")
    ] = None,
    rate_price: Annotated[
        float | None, typer.Option(min=0.0, help="A fixed price instead, in loss per bit.")
    ] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Latent channels.")] = None,
    channel_counts: Annotated[str | None, typer.Option(help="Prefixes offered, e.g. 2,4,8,16.")] = None,
    widths: Annotated[str | None, typer.Option(help="Compute fractions, e.g. 0.25,0.5,0.75,1.")] = None,
    encoder: Annotated[str | None, typer.Option(help="CHANNELSxBLOCKS per stage, e.g. 48x1,96x1.")] = None,
    decoder: Annotated[str | None, typer.Option(help="CHANNELSxBLOCKS of the server's decoder.")] = None,
    exit_channels: Annotated[int | None, typer.Option(min=0, help="Of the early exit; 0: none.")] = None,
    mean: Annotated[str | None, typer.Option(help="The network's, e.g. 0.485,0.456,0.406.")] = None,
    std: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    augment: Annotated[Augment | None, typer.Option(help="Shifts are up to an eighth of the image.")] = None,
    validation: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Training images held out, on which 'isthmus export' measures what policies read; if given, "
            "measured each epoch too [default: an eighth, at most 1000].",
        ),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="auto: bfloat16 where the CPU has it.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    max_minutes: Annotated[float | None, typer.Option(min=0.01, help="End by then, annealed.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    no_teacher: Annotated[
        bool, typer.Option("--no-teacher", help="Leave the uncut network's weights out of the checkpoint.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a slimmable bottleneck at a cut, by distillation from the uncut network.

    What is not given follows a recipe for images of that shape.
    """
    import torch

    from isthmus.cli._train_flags import (
        augmentation,
        bottleneck_size,
        cut_name,
        per_channel,
        supported_precision,
        train_settings,
    )
    from isthmus.models import run_state
    from isthmus.models.design import design
    from isthmus.models.recipes import recipe_for
    from isthmus.runtime.datasets import load_dataset, parse_size

    run_state.open_run(out_dir, resume=resume)
    at = cut_name(cut, plan)
    size_hw = parse_size(size) if size is not None else None
    images = load_dataset(dataset, split="train", size=size_hw)
    tests = load_dataset(test, split="test", size=size_hw) if test is not None else None
    if tests is not None:
        tests.check_fits(images.shape_hwc, images.classes)
    recipe = recipe_for(images.shape_hwc)
    bottleneck = bottleneck_size(
        recipe.size, channels, channel_counts, widths, encoder, decoder, exit_channels
    )
    settings = train_settings(
        recipe,
        epochs=epochs,
        exit_epochs=exit_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        tail_learning_rate=tail_learning_rate,
        answer_weight=answer_weight,
        temperature=temperature,
        target_bytes=target_bytes,
        rate_price=rate_price,
        augmentation=augmentation(augment, images) or recipe.augmentation,
        precision=supported_precision(precision),
        seed=seed,
    )
    in_channels = images.shape_hwc[2]
    normalisation = (per_channel(mean, "--mean", in_channels), per_channel(std, "--std", in_channels))
    if threads is not None:
        torch.set_num_threads(threads)
    trained, held_out = _hold_out(images, validation)
    teacher = _teacher(model, weights, trained, (teacher_epochs, seed, resume), out_dir, normalisation)
    config = design(
        model,
        teacher,
        cut=at,
        shape_hwc=images.shape_hwc,
        labels=images.classes,
        size=bottleneck,
        mean=normalisation[0],
        std=normalisation[1],
        tail_tuned=tune_tail,
    )
    console.print(f"recipe for {recipe.name}: {settings.epochs} epochs at {config.cut}", soft_wrap=True)
    _train(
        config,
        teacher,
        trained,
        held_out,
        tests,
        settings,
        out_dir=out_dir,
        resume=resume,
        max_minutes=max_minutes,
        each_epoch=validation is not None,
        with_teacher=not no_teacher,
        as_json=as_json,
    )


def _train(
    config: SplitConfig,
    teacher: nn.Module,
    trained: ImageSet,
    held_out: ImageSet | None,
    tests: ImageSet | None,
    settings: TrainSettings,
    *,
    out_dir: Path,
    resume: bool,
    max_minutes: float | None,
    each_epoch: bool,
    with_teacher: bool,
    as_json: bool,
) -> None:
    import torch

    from isthmus.cli._train_output import TrainingBar, report_training
    from isthmus.models.evaluate import evaluate
    from isthmus.models.network import CHECKPOINT_NAME, SplitNetwork, save_checkpoint
    from isthmus.models.train import train_bottleneck

    # The bottleneck's first weights depend on the seed alone, not on whether the teacher was trained here.
    torch.manual_seed(settings.seed)
    network = SplitNetwork(config, teacher)
    with TrainingBar("training the bottleneck", out_dir) as bar:
        if held_out is not None and each_epoch:
            bar.hold_out(network, trained, held_out)
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
        "command": shlex.join(["isthmus", *sys.argv[1:]]),
        "data": f"{trained.name}, {len(trained)} images",
        "held_out": str(0 if held_out is None else len(held_out)),
        "seconds": f"{result.elapsed_s:.0f}",
        "steps": str(result.steps),
        "seed": str(settings.seed),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, {settings.precision}",
    }
    checkpoint = out_dir / CHECKPOINT_NAME
    save_checkpoint(network, checkpoint, with_teacher=with_teacher, facts=facts)
    measured = None if tests is None else (evaluate(network, tests), tests)
    report_training(network, checkpoint, facts, measured, as_json=as_json)


def _teacher(
    model: str,
    weights: Path | None,
    images: ImageSet,
    run: tuple[int, int, bool],
    out_dir: Path,
    normalisation: tuple[tuple[float, ...] | None, tuple[float, ...] | None],
) -> nn.Module:
    """Return the teacher; without weights it is trained here, and kept in `out_dir` for a resumption."""
    import torch

    from isthmus.cli._train_output import TrainingBar
    from isthmus.models.backbones import load_weights, make_model
    from isthmus.models.teacher import TeacherSettings, train_teacher

    epochs, seed, resume = run
    height, width, channels = images.shape_hwc
    kept = out_dir / "teacher.pt"
    if weights is None and resume and kept.exists():
        weights = kept
    if weights is not None:
        teacher = make_model(model, len(images.classes), channels, image_size=(height, width))
        load_weights(teacher, weights)
        return teacher.eval()
    if epochs == 0:
        return make_model(model, len(images.classes), channels, image_size=(height, width)).eval()
    console.print(f"no --weights: training {model} on the labels for {epochs} epochs first")
    settings = TeacherSettings(epochs=epochs, seed=seed, mean=normalisation[0], std=normalisation[1])
    with TrainingBar("training the network to cut") as bar:
        teacher = train_teacher(model, images, settings, progress=bar.step)
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.save(teacher.state_dict(), kept)
    return teacher


def _hold_out(images: ImageSet, count: int | None) -> tuple[ImageSet, ImageSet | None]:
    # The export holds the same images out again, by this function and the count in the checkpoint:
    # what policies read must not be measured on images that were trained on.
    from isthmus.runtime.datasets import hold_out

    return (images, None) if count == 0 else hold_out(images, count)
