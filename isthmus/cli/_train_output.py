"""What `isthmus train` shows: a progress bar, a line per epoch, and the table at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from isthmus.cli._common import console, out, print_json
from isthmus.models.evaluate import Evaluation, PointResult, evaluate
from isthmus.models.network import SplitNetwork
from isthmus.models.progress import TrainProgress
from isthmus.models.run_state import METRICS, append_metrics
from isthmus.models.settings import TrainSettings
from isthmus.models.width_statistics import calibrate
from isthmus.runtime.datasets import ImageSet

# In the middle of a training fewer images are enough for the statistics.
_CALIBRATION_SHARE = 0.25


class TrainingBar:
    """A bar with the time left on a terminal, and a line after each epoch everywhere."""

    def __init__(self, task: str, widths: tuple[float, ...] = (), note: Path | None = None) -> None:
        """Take what is being done, the widths it is done for and, for `hold_out`, the run's directory."""
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(task, total=1.0, state="")
        self._note, self._widths = note, widths
        self._held: Callable[[], list[PointResult]] | None = None
        self._every = 1
        self._bits: dict[int, float] = {}

    def hold_out(
        self,
        network: SplitNetwork,
        trained: ImageSet,
        held_out: ImageSet,
        every: int,
        recipe: TrainSettings,
    ) -> None:
        """Measure `network` on `held_out` after `every` so many epochs, calibrated on some of `trained`."""

        def measure() -> list[PointResult]:
            calibrate(
                network,
                trained,
                kind=recipe.calibration,
                share=_CALIBRATION_SHARE,
                augmentation=recipe.augmentation,
                seed=recipe.seed,
            )
            return list(evaluate(network, held_out).points)

        self._held, self._every = measure, every

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, now: TrainProgress) -> None:
        """Show the state after one step."""
        self._now = now
        self._bits.update(now.bits)
        self._bar.update(self._task, completed=now.fraction, state=self._state())

    def epoch(self, number: int) -> None:
        """Print the line of epoch `number`."""
        line = self._state()
        if self._held is not None and ((number + 1) % self._every == 0 or number + 1 == self._now.epochs):
            points = self._held()
            record = [
                [p.width_index, p.channels, p.accuracy, round(p.entropy_bytes, 1), p.agreement]
                for p in points
            ]
            assert self._note is not None
            append_metrics(self._note / METRICS, {"epoch": number, "held_out": record})
            counts = len({point.channels for point in points})
            line += f"  held-out {_point(points[-1])}, narrowest {_point(points[counts - 1])}"
        console.print(line, soft_wrap=True)

    def _state(self) -> str:
        now = self._now
        parts = "  ".join(f"{name} {value:.3f}" for name, value in now.terms.items())
        sizes = ", ".join(f"{self._widths[i]:g}: {bits / 8:.0f} B" for i, bits in sorted(self._bits.items()))
        rate = "" if now.learning_rate is None else f"  rate {now.learning_rate:.1e}"
        clock = f"{now.elapsed_s:.0f} s, {now.remaining_s:.0f} s left" if now.elapsed_s else ""
        size = f"  {sizes}" if sizes else ""
        return f"epoch {now.epoch + 1}/{now.epochs}  {parts}{size}{rate}  {clock}"


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
            "agreement": point.agreement,
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
    for title in ("width", "channels", "accuracy %", "as uncut %", "bytes (ideal code)"):
        table.add_column(title, justify="right")
    for row in rows:
        cells = (
            f"{row['width']:g}",
            f"{row['channels']}",
            f"{100 * row['accuracy']:.1f}",
            f"{100 * row['agreement']:.1f}",
        )
        table.add_row(*cells, f"{row['entropy_bytes']:.0f}")
    out.print(table)
    if evaluation.exits:
        shares = ", ".join(f"{100 * value:.1f} %" for value in evaluation.exits)
        out.print(f"early exit per width: {shares}")


def _point(point: PointResult) -> str:
    same = f"{100 * point.agreement:.1f} % as uncut"
    return f"{100 * point.accuracy:.1f} % ({same}) at {point.entropy_bytes:.0f} B"
