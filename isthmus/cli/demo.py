"""`isthmus demo`: the whole path once, by the same commands that a user would type.

Every step is printed as the command that does it. Files, processes and sockets are the real ones; only the
link is emulated: `isthmus link` stands between agent and server and replays a trace.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli._common import JsonFlag, console, out, print_json
from isthmus.cli._progress import progress
from isthmus.runtime.errors import InputError

if TYPE_CHECKING:
    from isthmus.runtime.datasets import ImageSet

_TEACHER_EPOCHS = 10
_QUICK_EPOCHS = 4
# The networks are so small that a second thread costs more than it brings, above all on a busy machine.
_THREADS = 1
_QUICK_RUN = "4s"
# More than a frame of digits needs: at their fewest bytes no link of the demo would ever be too narrow.
_TARGET_BYTES = 420
# Says that a folder is a demo's own, so that the next demo may replace what is in it.
_MARKER = ".isthmus-demo"


def command(
    dataset: Annotated[str, typer.Option(help="Images: digits, npz:FILE or folder:DIR.")] = "digits",
    test: Annotated[
        str | None, typer.Option(help="Test images; default: the test part of --dataset (npz needs its own).")
    ] = None,
    trace: Annotated[
        str, typer.Option(help="Uplink: a trace file, constant:RATE, step:… or outage.")
    ] = "outage",
    delay: Annotated[str, typer.Option(help="One-way delay of the link.")] = "10ms",
    deadline: Annotated[str, typer.Option(help="From capture to answer.")] = "150ms",
    fps: Annotated[float, typer.Option(min=0.1, help="Frames captured per second.")] = 20.0,
    duration: Annotated[
        str | None, typer.Option(help="Length of the run; default: once through the trace.")
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path(
        "runs/demo"
    ),
    dashboard: Annotated[
        bool,
        typer.Option(
            "--dashboard",
            help="Show the run live in a browser, with sliders for link and deadline; without --duration it "
            "goes on until Ctrl-C.",
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train for seconds and run for a few: a smoke test, not a result.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train, partition, export, serve and run over a varying link on this machine; write a report."""
    _compute_by_one_thread()
    from isthmus.cli._demo_run import Run, run_agent
    from isthmus.device_agents.config import read_config
    from isthmus.runtime.datasets import load_dataset, save_npz
    from isthmus.runtime.links import load_trace
    from isthmus.runtime.units import parse_duration_s

    # Everything the user can have got wrong is found before the first minute is spent.
    parse_duration_s(delay)
    shape = load_trace(trace)
    length = duration or (_QUICK_RUN if quick else f"{shape.duration_s:g}s")
    read_config({"source": dataset, "fps": fps, "deadline": deadline, "duration": length}, environ={})
    test_spec = test or _default_test(dataset)
    images, test_images = load_dataset(dataset, split="train"), load_dataset(test_spec, split="test")
    test_images.check_fits(images.shape_hwc, images.classes)

    steps = _Steps(out_dir)
    started = time.monotonic()
    report = out_dir / "report.html"
    # With --json, standard output belongs to the one object at the end; what the verbs print goes beside it.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        source = out_dir / "test.npz"
        save_npz(source, test_images)
        bundle = _prepare(steps, images, dataset, test_spec, quick=quick)
        with steps.timed("run"):
            # With the page to play on, a run ends when its user has seen enough.
            lasts = None if dashboard and duration is None else length
            run = Run(trace=trace, delay=delay, deadline=deadline, fps=fps, length=lasts, dashboard=dashboard)
            run_agent(run, out_dir, bundle, source, show=steps.show)
        _write_teacher_answers(out_dir, test_images)
        steps.write_timings()
        steps.run("report", str(out_dir), "--bundle", str(bundle), "--out", str(report))
    total_s = time.monotonic() - started
    if as_json:
        print_json({"report": str(report), "timings_s": steps.timings_s, "total_s": round(total_s, 1)})
    else:
        events = out_dir / "events.jsonl"
        out.print(f"report: {report}   events: {events}   ({total_s:.0f} s in all)", soft_wrap=True)


def _prepare(steps: _Steps, images: ImageSet, dataset: str, test_spec: str, *, quick: bool) -> Path:
    """Train the teacher, choose the cut, train the bottleneck and export it; return the bundle."""
    root = steps.root
    teacher, plan, checkpoint, bundle = (
        root / name for name in ("teacher.pt", "plan.json", "train", "bundle")
    )
    with steps.timed("teacher"):
        _train_teacher(images, teacher, _QUICK_EPOCHS if quick else _TEACHER_EPOCHS)
    model = ["--model", "digits-cnn", "--weights", str(teacher), "--dataset", dataset]
    with steps.timed("partition"):
        steps.run("partition", *model, "--choose", "bottleneck", "--budget", "3s", "--out", str(plan))
    with steps.timed("train"):
        _remove(checkpoint)
        # An exit as good as what the server answers would leave a quick run nothing to send.
        epochs = ["--epochs", str(_QUICK_EPOCHS), "--exit-epochs", "1"] if quick else []
        how = ["--threads", str(_THREADS), "--target-bytes", str(_TARGET_BYTES)]
        steps.run("train", *model, "--plan", str(plan), *epochs, *how, "--out", str(checkpoint))
    with steps.timed("export"):
        steps.run("export", str(checkpoint), "--dataset", dataset, "--test", test_spec, "--out", str(bundle))
    return bundle


def _compute_by_one_thread() -> None:
    """Keep numpy's and torch's own threads from spinning for each other; before either is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(_THREADS))


class _Steps:
    """Runs verbs in this process, prints each as a user would type it, and notes how long stages took."""

    def __init__(self, root: Path) -> None:
        _claim(root)
        self.root = root
        self.timings_s: dict[str, float] = {}

    def run(self, *arguments: str) -> None:
        from isthmus.cli import invoke

        self.show(arguments)
        # A training takes Ctrl-C for its own, keeps its state and says so: the demo ends with it.
        if code := invoke(arguments):
            raise typer.Exit(code)

    def show(self, arguments: Sequence[str]) -> None:
        console.print(f"\n$ isthmus {shlex.join(arguments)}", style="bold", markup=False, soft_wrap=True)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.timings_s[stage] = round(time.monotonic() - started, 2)

    def write_timings(self) -> None:
        (self.root / "timings.json").write_text(json.dumps(self.timings_s, indent=2) + "\n")


def _claim(root: Path) -> None:
    """Make the folder of the demo. What an earlier demo left there is replaced, anything else is not touched.

    Raises:
        InputError: If the folder holds other things, or cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()) and not (root / _MARKER).is_file():
            raise InputError(f"{root}: holds files that no demo made; choose a new or empty --out folder")
        (root / _MARKER).touch()
    except OSError as error:
        raise InputError(f"{root}: {error.strerror or error}; choose another --out") from None


def _default_test(dataset: str) -> str:
    if dataset.startswith("npz:"):
        raise InputError(f"--dataset {dataset}: an npz file has no test part; give --test npz:FILE")
    return dataset


def _train_teacher(images: ImageSet, path: Path, epochs: int) -> None:
    import torch

    from isthmus.models.allocator import kept_memory
    from isthmus.models.teacher import TeacherSettings, train_teacher
    from isthmus.runtime.datasets import hold_out

    torch.set_num_threads(_THREADS)
    # Policies read accuracies measured on what is held out here: the teacher must not have seen it either.
    seen, _ = hold_out(images)
    console.print(
        f"training the teacher, a small CNN, on {len(seen)} of the {len(images)} images of {images.name}"
    )
    with kept_memory(), progress("training the teacher") as show:
        settings = TeacherSettings(epochs=epochs)
        teacher = train_teacher("digits-cnn", seen, settings, progress=lambda now: show(share=now.fraction))
    torch.save(teacher.state_dict(), path)


def _write_teacher_answers(root: Path, images: ImageSet) -> None:
    """Write what the uncut network answers to the run's images: the report compares on the same frames."""
    import numpy as np
    import torch

    from isthmus.models.network import load_checkpoint

    teacher = load_checkpoint(root / "train" / "checkpoint.pt").materialise_teacher()
    with torch.no_grad():
        batches = torch.split(torch.from_numpy(images.images), 256)
        answers = np.concatenate([teacher(batch).argmax(1).numpy() for batch in batches])
    content = {"answers": answers.tolist(), "labels": images.labels.tolist()}
    (root / "teacher.json").write_text(json.dumps(content) + "\n")


def _remove(folder: Path) -> None:
    """Remove what an earlier demo left in its own folder."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
