"""What `isthmus train` shows: a progress bar, a line per epoch, and the table at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from isthmus.cli._common import console, out, print_json
from isthmus.models.evaluate import Evaluation, PointResult, evaluate
from isthmus.models.network import SplitNetwork
from isthmus.models.progress import TrainProgress
from isthmus.models.run_state import METRICS, append_metrics
from isthmus.models.train import calibrate
from isthmus.runtime.datasets import ImageSet


class TrainingBar:
    """A bar with the time left on a terminal, and a line after each epoch everywhere."""

    def __init__(self, task: str, note: Path | None = None) -> None:
        """Take what is being done and, for the notes of `hold_out`, the run's directory."""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(task, total=1.0, state="")
        self._note = note
        self._held: tuple[SplitNetwork, ImageSet, ImageSet] | None = None

    def hold_out(self, network: SplitNetwork, trained: ImageSet, held_out: ImageSet) -> None:
        """Measure `network` on `held_out` after each epoch, calibrated on `trained`."""
        self._held = (network, trained, held_out)

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, now: TrainProgress) -> None:
        """Show the state after one step."""
        self._now = now
        self._bar.update(self._task, completed=now.fraction, state=self._state())

    def epoch(self, number: int) -> None:
        """Print the line of epoch `number`."""
        line = self._state()
        if self._held is not None:
            network, trained, held_out = self._held
            calibrate(network, trained)
            ends = sorted({0, len(network.config.widths) - 1})
            points = evaluate(network, held_out, width_indices=ends).points
            record = [[p.width_index, p.channels, p.accuracy, round(p.entropy_bytes, 1)] for p in points]
            assert self._note is not None
            append_metrics(self._note / METRICS, {"epoch": number, "held_out": record})
            line += f"  held-out {_point(points[-1])}, narrowest {_point(points[0])}"
        console.print(line, soft_wrap=True)

    def _state(self) -> str:
        now = self._now
        parts = "  ".join(f"{name} {value:.3f}" for name, value in now.terms.items())
        size = "" if now.bits is None else f"  {now.bits / 8:.0f} B"
        clock = f"{now.elapsed_s:.0f} s, {now.remaining_s:.0f} s left"
        return f"epoch {now.epoch + 1}/{now.epochs}  {parts}{size}  {clock}"


def report_training(
    network: SplitNetwork,
    checkpoint: Path,
    facts: dict[str, str],
    measured: tuple[Evaluation, ImageSet] | None,
    *,
    as_json: bool,
) -> None:
    """Print the end of a training: the points measured in torch, if any, and where the checkpoint is."""
    rows = [
        {
            "width": network.config.widths[point.width_index],
            "channels": point.channels,
            "accuracy": point.accuracy,
            "entropy_bytes": point.entropy_bytes,
        }
        for point in (measured[0].points if measured else ())
    ]
    if as_json:
        result: dict[str, Any] = {"checkpoint": str(checkpoint), **facts, "points": rows}
        if measured is not None:
            evaluation, images = measured
            result |= {"measured_on": images.name, "teacher": evaluation.teacher}
            result |= {"exits": list(evaluation.exits)}
        print_json(result)
        return
    if measured is not None:
        _print_points(*measured, rows)
    out.print(
        f"{checkpoint}  (trained in {facts['seconds']} s; 'isthmus export' makes a bundle)", soft_wrap=True
    )


def _print_points(evaluation: Evaluation, images: ImageSet, rows: list[dict[str, Any]]) -> None:
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
        shares = ", ".join(f"{100 * value:.1f} %" for value in evaluation.exits)
        out.print(f"early exit per width: {shares}")


def _point(point: PointResult) -> str:
    return f"{100 * point.accuracy:.1f} % at {point.entropy_bytes:.0f} B"
