"""`isthmus train`: a network, images and a cut in; a checkpoint of a slimmable bottleneck out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli._common import console, out, print_json
from isthmus.cli._progress import progress
from isthmus.cli._train_config import CONFIG, first_command, keep_config
from isthmus.cli._train_signature import with_settings
from isthmus.runtime.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from isthmus.models.config import SplitConfig
    from isthmus.models.network import SplitNetwork
    from isthmus.models.train import TrainSettings
    from isthmus.runtime.datasets import ImageSet

# What a shell reports for a process that a signal ended.
_SIGNALLED = 128


@with_settings
def command(**flags: Any) -> int | None:
    """Train a slimmable bottleneck at a cut, by distillation from the uncut network.

    Settings come from flags, then variables (ISTHMUS_TRAIN_LEARNING_RATE), then --config FILE, then the
    recipe: the named one, or one that fits the images' shape. --show-config prints all of them, unset ones as
    comments; without --dataset it knows a recipe only if one is named. A run keeps its own as config.toml.
    Ctrl-C and SIGTERM end a run after its step (exit codes 130, 143), a crash loses at most ten minutes:
    --resume goes on, on the same CPU to the very same checkpoint. Exit code 7: a loss or gradient is not
    finite; the last good state is kept.
    """
    from isthmus.models import run_state
    from isthmus.models.option_layers import read_layers, to_toml
    from isthmus.models.recipes import load_recipe
    from isthmus.runtime.datasets import load_dataset, parse_size

    out_dir, resume, as_json, show = (flags.pop(name) for name in ("out", "resume", "as_json", "show_config"))
    file, kept = flags.pop("config"), None
    if resume and out_dir is not None and file is None and (out_dir / CONFIG).exists():
        file = kept = out_dir / CONFIG
    given = read_layers(flags, file=file)
    # What a run kept is all that was set: a recipe that changed since then has no say in it.
    named = load_recipe(given["recipe"]) if kept is None and "recipe" in given else {}
    dataset, size = (given.get(name, named.get(name)) for name in ("dataset", "size"))
    for name, value in (("dataset", dataset), ("out", out_dir)):
        if value is None and not show:
            raise InputError(
                f"{name} is not set: give --{name}" + (" or set it in --config" * (name == "dataset"))
            )
    size_hw = None if size is None else parse_size(size)
    with nullcontext() if show else run_state.open_run(out_dir, resume=resume):
        images = None
        if dataset is not None:
            with progress(f"reading {dataset}"):
                images = load_dataset(dataset, split="train", size=size_hw)

        from isthmus.cli._train_flags import whole_configuration

        shape_hwc = None if images is None else images.shape_hwc
        settings = whole_configuration(given, shape_hwc, complete=kept is not None)
        if show or images is None:
            if as_json:
                print_json(settings)
            else:
                out.print(to_toml(settings, unset=True), end="", markup=False, soft_wrap=True)
            return None
        tests = load_dataset(settings["test"], split="test", size=size_hw) if settings["test"] else None
        if tests is not None:
            tests.check_fits(images.shape_hwc, images.classes)
        return _prepared(settings, images, tests, out_dir, resume=resume, as_json=as_json)


def _prepared(
    settings: Mapping[str, Any],
    images: ImageSet,
    tests: ImageSet | None,
    out_dir: Path,
    *,
    resume: bool,
    as_json: bool,
) -> int | None:
    """Load the network, design the bottleneck and train it."""
    import torch

    from isthmus.cli._train_flags import bottleneck_size, cut_name, per_channel, train_settings
    from isthmus.models.design import design
    from isthmus.models.output_names import output_names
    from isthmus.models.run_state import has_state

    at = cut_name(settings["cut"], settings["plan"])
    size, recipe = bottleneck_size(settings), train_settings(settings, images.shape_hwc)
    mean, std = (per_channel(settings[name], f"--{name}", images.shape_hwc[2]) for name in ("mean", "std"))
    torch.set_num_threads(settings["threads"])
    labels = output_names(settings["outputs"], settings["model"], images.classes)
    trained, held_out = _hold_out(images, settings["validation"])
    trained, held_out = trained.with_classes(labels), held_out and held_out.with_classes(labels)
    if trained.classes != labels and recipe.label_weight:
        raise InputError(
            f"label_weight: the classes of {images.name} are no outputs; give 0, or --outputs FILE"
        )
    teacher = _teacher(settings, trained, labels, out_dir, (mean, std), resume=resume)
    config = design(
        settings["model"],
        teacher,
        cut=at,
        shape_hwc=images.shape_hwc,
        labels=labels,
        size=size,
        mean=mean,
        std=std,
        tail_tuned=settings["tune_tail"],
    )
    begun = has_state(out_dir)
    if not begun:  # else a mistaken resumption, which is refused, would leave its settings behind
        keep_config(out_dir, settings)
        if resume:
            console.print(f"{out_dir}: no state yet; this run begins anew", soft_wrap=True)
    console.print(
        f"recipe {settings['recipe']}: {recipe.epochs} epochs at {config.cut} on {settings['device']}, "
        f"{recipe.precision}; images normalised by mean {_shown(config.mean)}, std {_shown(config.std)}",
        soft_wrap=True,
    )
    if settings["max_minutes"] is not None:
        console.print("with --max-minutes the clock ends the run: it cannot be repeated bit for bit")
    return _train(config, teacher, (trained, held_out, tests), recipe, settings, out_dir, begun, as_json)


def _shown(values: Sequence[float]) -> str:
    return ",".join(f"{value:.3g}" for value in values)


def _train(
    config: SplitConfig,
    teacher: nn.Module,
    images: tuple[ImageSet, ImageSet | None, ImageSet | None],
    recipe: TrainSettings,
    settings: Mapping[str, Any],
    out_dir: Path,
    resume: bool,
    as_json: bool,
) -> int | None:
    import torch

    from isthmus.cli._stop_signals import StopSignals
    from isthmus.cli._train_output import TrainingBar, report_training
    from isthmus.models.allocator import kept_memory
    from isthmus.models.evaluate import evaluate
    from isthmus.models.network import CHECKPOINT_NAME, SplitNetwork, save_checkpoint
    from isthmus.models.output_names import labelled_for
    from isthmus.models.run_state import trained_digest
    from isthmus.models.train import train_bottleneck
    from isthmus.models.train_input import check_input

    (trained, held_out, tests), views = images, settings["views_folder"]
    # The bottleneck's first weights depend on the seed alone, not on whether the teacher was trained here.
    torch.manual_seed(recipe.seed)
    network = SplitNetwork(config, teacher).to(settings["device"])
    check_input(network, trained, recipe, out_dir)
    # The state of a run that is resumed knows its weights, and which of them were started.
    started = [] if resume else _first_weights(network, trained, settings)
    bar = TrainingBar("training the bottleneck", config.widths, out_dir)
    with kept_memory(), StopSignals() as signals, bar:
        if held_out is not None and settings["validation"] is not None and settings["validation_every"]:
            bar.hold_out(
                network,
                trained,
                labelled_for(network, held_out),
                settings["validation_every"],
                recipe,
            )
        result = train_bottleneck(
            network,
            trained,
            recipe,
            out=out_dir,
            resume=resume,
            max_minutes=settings["max_minutes"],
            state_minutes=settings["state_minutes"],
            stop=signals.stop,
            progress=bar.step,
            epoch_done=bar.epoch,
            started=started,
            views_folder=views and Path(views).expanduser(),
        )
    if not result.finished:
        console.print(f"stopped after step {result.steps}; --resume --out {out_dir} goes on", soft_wrap=True)
        return _SIGNALLED + (signals.received or 0)
    network.to("cpu")
    facts = {
        "command": first_command(out_dir),
        "recipe": str(settings["recipe"]),
        "data": f"{trained.name}, {len(trained)} images",
        "held_out": str(0 if held_out is None else len(held_out)),
        # By this, export and eval bring arrays to the network's size too.
        **({} if settings["size"] is None else {"size": settings["size"]}),
        "seconds": f"{result.elapsed_s:.0f}",
        "steps": str(result.steps),
        "seed": str(recipe.seed),
        "digest": trained_digest(network),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, {recipe.precision}",
    }
    checkpoint = out_dir / CHECKPOINT_NAME
    save_checkpoint(network, checkpoint, with_teacher=settings["keep_teacher"], facts=facts)
    tests = tests and labelled_for(network, tests)
    with progress("measuring every point on the test images"):
        measured = None if tests is None else (evaluate(network, tests), tests)
    report_training(network, checkpoint, facts, measured, as_json=as_json)
    return None


def _first_weights(network: SplitNetwork, images: ImageSet, settings: Mapping[str, Any]) -> list[str]:
    """Copy the first weights into `network`, if some are given; return the names of their tensors."""
    import torch

    from isthmus.models.checkpoint import load_start
    from isthmus.models.stem_start import teach_stem
    from isthmus.models.teacher_start import start_from_teacher
    from isthmus.runtime.datasets import spread

    start = settings["start"]
    if start is None:
        return []
    if start != "teacher":
        return load_start(network, Path(start).expanduser())
    chosen = spread(len(images), settings["start_images"])
    started = start_from_teacher(network, torch.from_numpy(images.images[chosen]))
    console.print(f"{len(started)} tensors start as the network's own, thinned")
    if steps := settings["stem_steps"]:
        console.print(f"teaching the new layers before them: {steps} steps")
        pixels = torch.from_numpy(images.images)
        with progress("teaching the new layers") as show:
            teach_stem(
                network, pixels, steps=steps, seed=settings["seed"], progress=lambda done: show(share=done)
            )
    return started


def _teacher(
    settings: Mapping[str, Any],
    images: ImageSet,
    labels: Sequence[str],
    out_dir: Path,
    normalisation: tuple[tuple[float, ...] | None, tuple[float, ...] | None],
    *,
    resume: bool,
) -> nn.Module:
    """Return the teacher; without weights it is trained here, and kept in `out_dir` for a resumption."""
    from isthmus.cli._train_output import TrainingBar
    from isthmus.models.backbones import load_weights, make_model
    from isthmus.models.checkpoint import write_tensors
    from isthmus.models.teacher import TeacherSettings, train_teacher

    model, epochs = settings["model"], settings["teacher_epochs"]
    weights = None if settings["weights"] is None else Path(settings["weights"]).expanduser()
    height, width, channels = images.shape_hwc
    kept = out_dir / "teacher.pt"
    if weights is None and resume and kept.exists():
        weights = kept
    if weights is not None:
        teacher = make_model(model, len(labels), channels, image_size=(height, width))
        load_weights(teacher, weights)
        return teacher.eval()
    if epochs == 0:
        return make_model(model, len(labels), channels, image_size=(height, width)).eval()
    if images.classes != labels:
        raise InputError(f"{model}: the images have no labels for its {len(labels)} outputs; give --weights")
    console.print(f"no --weights: training {model} on the labels for {epochs} epochs first")
    recipe = TeacherSettings(
        epochs=epochs, seed=settings["seed"], mean=normalisation[0], std=normalisation[1]
    )
    with TrainingBar("training the network to cut") as bar:
        teacher = train_teacher(model, images, recipe, progress=bar.step)
    write_tensors(teacher.state_dict(), kept)
    return teacher


def _hold_out(images: ImageSet, count: int | None) -> tuple[ImageSet, ImageSet | None]:
    # The export holds the same images out again, by this function and the count in the checkpoint:
    # what policies read must not be measured on images that were trained on.
    from isthmus.runtime.datasets import hold_out

    return (images, None) if count == 0 else hold_out(images, count)
