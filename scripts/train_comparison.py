"""Train and export the networks of `comparison_networks`, one after the other; what is done is skipped.

Run it as `scripts/train-comparison TASK`. Under runs/rate-accuracy/TASK, where `isthmus bench rate-accuracy`
looks, `training/` holds each network's settings, checkpoint and log, and the views that all share; the
bundles lie beside it, exported again where the checkpoint is another. Underneath are `isthmus train` and
`isthmus export`; an interrupted run goes on where it was: Ctrl-C and SIGTERM wait until the work so far is
saved, a second one ends it at once. Exit codes are those of `isthmus`, 128 + n after signal n.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from comparison_networks import OURS, UNCALIBRATED, Contender, contenders  # a file beside this one

from isthmus.models.checkpoint import CHECKPOINT_NAME, load_checkpoint, read_checkpoint, save_checkpoint
from isthmus.models.option_layers import merged, read_toml, to_toml, with_defaults
from isthmus.models.recipes import load_recipe
from isthmus.models.run_state import has_state
from isthmus.models.width_statistics import share_widest
from isthmus.runtime.bundle import load_bundle
from isthmus.runtime.datasets import ImageSet, hold_out, load_dataset, parse_size
from isthmus.runtime.errors import BundleError, InputError, IsthmusError

ROOT = Path(__file__).resolve().parent.parent
_LOG = "log.txt"
# What a shell adds to the number of the signal that ended a process.
_SIGNALLED = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task's recipe and data.

    Attributes:
        recipe: Of ours: a name, or a file.
        dataset: Training images, as `isthmus train` takes them, below the data folder.
        weights: Of the uncut network, likewise.
        images: Each network sees about so many, unless told otherwise.
        size: Of the images, where files have others.
        ablations: Whether parts of ours are changed one at a time, too.
        left_out: Methods that do not fit the task's cut, and why.
    """

    recipe: str
    dataset: str
    weights: str
    images: int
    size: str | None = None
    ablations: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)


TASKS: Mapping[str, Task] = {
    "cifar10-resnet56": Task(
        recipe=str(ROOT / "scripts" / "comparison-cifar10-resnet56.toml"),
        dataset="npz:{data}/cifar10/train.npz",
        weights="weights/cifar10_akamaster/resnet56-4bfd9763.th",
        images=74_000,
        ablations=True,
    ),
    "imagenette-mobilenetv2": Task(
        recipe=str(ROOT / "scripts" / "comparison-imagenette-mobilenetv2.toml"),
        dataset="folder:{data}/imagenette224/train",
        weights="weights/imagenet_mobilenet_v2/mobilenet_v2_i8perchannel.npz",
        images=36_000,
        size="224x224",
        left_out={"entropic": "its latent would have 55x55 places, too many for the cut's 14x14"},
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return 0, or the exit code of what failed."""
    parser = argparse.ArgumentParser(prog="scripts/train-comparison", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--images", type=int, help="images that each network sees, brought to whole passes")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these networks, or methods")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--data", type=Path, default=data_folder(), help="[default: ISTHMUS_DATA or ../shared/data]"
    )
    parser.add_argument("--out", type=Path, help="[default: runs/rate-accuracy/TASK]")
    parser.add_argument("--no-export", action="store_true", help="train only; a later call exports")
    parser.add_argument("--list", action="store_true", help="print names and what is done, and end")
    asked = parser.parse_args(arguments)
    try:
        return _run(asked)
    except IsthmusError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except subprocess.CalledProcessError as error:
        code = error.returncode if error.returncode >= 0 else _SIGNALLED - error.returncode
        print(f"error: {shlex.join(error.cmd)}: exit code {code}", file=sys.stderr)
        return int(code)
    except KeyboardInterrupt as stop:
        print("interrupted; the same command goes on from what is saved", file=sys.stderr)
        return _SIGNALLED + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)


def data_folder() -> Path:
    """Return where the real data is expected."""
    return Path(os.environ.get("ISTHMUS_DATA") or ROOT.parent / "shared" / "data")


def _run(asked: argparse.Namespace) -> int:
    task = TASKS[asked.task]
    work = Workshop(
        task, asked.data, asked.out or ROOT / "runs" / "rate-accuracy" / asked.task, asked.threads
    )
    epochs = max(1, round((asked.images or task.images) / work.trained_images()))
    every = [
        one
        for one in contenders(
            task.recipe,
            epochs=epochs,
            seed=asked.seed,
            ablations=task.ablations,
            without_half=work.without_half() if task.ablations else None,
        )
        if one.name.partition("/")[0] not in task.left_out
    ]
    chosen = [one for one in every if not asked.only or _names(one, task) & set(asked.only)]
    for method in task.left_out:
        print(f"{method} is left out: {task.left_out[method]}", flush=True)
    if not chosen:
        raise InputError(f"--only {' '.join(asked.only)}: there is no such network; --list names them")
    print(f"{len(chosen)} networks, {epochs} passes over {work.trained_images()} images each", flush=True)
    for one in chosen:
        if asked.list:
            for name in (one.name, UNCALIBRATED) if one.name == OURS and task.ablations else (one.name,):
                print(f"{name}: {work.state(name)}")
            continue
        started = time.monotonic()
        done = work.trained(one)
        if not asked.no_export:
            done &= work.exported(one.name)
            if one.name == OURS and task.ablations:
                work.uncalibrated()
        if not done:
            print(f"{one.name}: {time.monotonic() - started:.0f} s", flush=True)
    return 0


def _names(one: Contender, task: Task) -> set[str]:
    """Return by which words of --only a network is meant."""
    names = {one.name, one.name.partition("/")[0]}
    # What is left out of ours afterwards needs no training: it comes with ours.
    return names | {UNCALIBRATED, "ablation"} if one.name == OURS and task.ablations else names


class Workshop:
    """The folders of a comparison, and the commands that fill them."""

    def __init__(self, task: Task, data: Path, out: Path, threads: int) -> None:
        """Take the task, where its data is, where everything goes, and the threads of each command."""
        self._task, self._out, self._threads = task, out, str(threads)
        self._dataset, self._weights = task.dataset.format(data=data), data / task.weights
        self._training = out / "training"

    def trained_images(self) -> int:
        """Return how many images a pass has: those that training does not hold out."""
        return len(self._parts[0])

    def without_half(self) -> int:
        """Return how many images to hold out so that half of those that train now are left."""
        trained, held_out = self._parts
        return len(held_out) + len(trained) // 2

    @cached_property
    def _parts(self) -> tuple[ImageSet, ImageSet]:
        size = None if self._task.size is None else parse_size(self._task.size)
        images = load_dataset(self._dataset, split="train", size=size)
        return hold_out(images, load_recipe(self._task.recipe).get("validation"))

    def state(self, name: str) -> str:
        """Say how far a network is."""
        trained = self._trained_digest(name)
        if name == UNCALIBRATED and trained != self._trained_digest(OURS):
            trained = None
        if trained is None:
            return "begun" if has_state(self._training / name) else "not begun"
        return "exported" if self._exported_digest(name) == trained else "trained"

    def trained(self, one: Contender) -> bool:
        """Train a network, or what is left of it; True if there was nothing to do.

        Raises:
            InputError: If it was begun with other settings.
        """
        folder = self._training / one.name
        recipe = folder / "recipe.toml"
        settings = with_defaults(merged(one.settings))
        if recipe.is_file() and with_defaults(merged(read_toml(recipe))) != settings:
            raise InputError(
                f"{recipe}: was begun with other settings; remove {folder}, or give another --out"
            )
        if (folder / CHECKPOINT_NAME).is_file():
            return True
        folder.mkdir(parents=True, exist_ok=True)
        recipe.write_text(to_toml(one.settings), encoding="utf-8")
        flags = ["--recipe", recipe, "--out", folder, "--views-folder", self._training / "views"]
        if self._task.size is not None:
            flags += ["--size", self._task.size]
        if has_state(folder):
            flags.append("--resume")
        self._isthmus("train", *flags, log=folder / _LOG)
        return False

    def exported(self, name: str) -> bool:
        """Export a trained network; True if that was done before, of the same training."""
        folder = self._training / name
        if self._exported_digest(name) == self._trained_digest(name):
            return True
        self._isthmus("export", folder, "--out", self._out / name, log=folder / _LOG)
        return False

    def uncalibrated(self) -> None:
        """Export ours with the widest's statistics at every width: what leaving calibration out means."""
        folder = self._training / UNCALIBRATED
        # Its facts are those of ours, so that its digest says which training of ours it is made of.
        if self._trained_digest(UNCALIBRATED) != self._trained_digest(OURS):
            network = load_checkpoint(self._training / OURS, weights=self._weights)
            share_widest(network)
            facts = read_checkpoint(self._training / OURS / CHECKPOINT_NAME)["facts"]
            save_checkpoint(
                network,
                folder / CHECKPOINT_NAME,
                with_teacher=False,
                facts={**facts, "calibration": "at every width that of the widest"},
            )
        self.exported(UNCALIBRATED)

    def _trained_digest(self, name: str) -> str | None:
        """Return the digest of a network's trained tensors, or None if it is not trained."""
        file = self._training / name / CHECKPOINT_NAME
        return str(read_checkpoint(file)["facts"].get("digest", "unknown")) if file.is_file() else None

    def _exported_digest(self, name: str) -> str | None:
        """Return the digest of the trained tensors that a bundle was made of, or None without a sound one."""
        try:
            return load_bundle(self._out / name).manifest.provenance.get("train_digest")
        except BundleError:
            return None

    def _isthmus(self, verb: str, *flags: Any, log: Path) -> None:
        """Run `isthmus VERB` on the task's data, its output appended to `log`."""
        shared = ["--dataset", self._dataset, "--weights", self._weights, "--threads", self._threads]
        command = [sys.executable, "-m", "isthmus", verb, *map(str, (*flags, *shared))]
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ isthmus {shlex.join(command[3:])}\n")
            file.flush()
            child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
            code = _wait(child)
        if code:
            raise subprocess.CalledProcessError(code, command)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Return the exit code of `child`, which Ctrl-C reaches as well: it saves, and may take its time for it.

    Raises:
        KeyboardInterrupt: If there was one, once the child has ended; a second one ends it.
    """
    try:
        return child.wait()
    except KeyboardInterrupt as stop:
        if isinstance(stop, _Terminated):  # SIGTERM, which reaches this process alone
            child.terminate()
        print("waiting until the work so far is saved; once more to stop at once", file=sys.stderr)
        try:
            child.wait()
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
        raise


class _Terminated(KeyboardInterrupt):
    """SIGTERM: an interruption by another name."""


def _terminate(*_: Any) -> None:
    raise _Terminated


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
