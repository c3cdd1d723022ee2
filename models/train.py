"""Train a bottleneck: run the epochs, report, keep what resumes the run, calibrate at the end.

The loop around `BottleneckTrainer`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from isthmus.models.exit_training import train_exit
from isthmus.models.feed import Feed
from isthmus.models.linear_start import start_linearly
from isthmus.models.optimisers import EXIT_SPEED
from isthmus.models.progress import Clock, Tally, TrainProgress
from isthmus.models.run_state import (
    METRICS,
    Position,
    append_metrics,
    data_facts,
    resume_state,
    save_state,
    trim_metrics,
)
from isthmus.models.settings import TrainSettings
from isthmus.models.split_network import SplitNetwork
from isthmus.models.train_input import check_input
from isthmus.models.trainer import BottleneckTrainer
from isthmus.models.views import open_views
from isthmus.models.width_statistics import calibrate
from isthmus.runtime.datasets import ImageSet, spread

__all__ = ["TrainResult", "TrainSettings", "calibrate", "train_bottleneck"]

VIEWS = "views"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a training ended.

    Attributes:
        steps: Taken over all resumptions.
        elapsed_s: Likewise.
        finished: False if it was told to stop; its state is saved then, nothing is calibrated.
    """

    steps: int
    elapsed_s: float
    finished: bool = True


def train_bottleneck(
    network: SplitNetwork,
    images: ImageSet,
    settings: TrainSettings,
    *,
    out: Path | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
    state_minutes: float = 10.0,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
    epoch_done: Callable[[int], None] | None = None,
    started: Collection[str] = (),
    views_folder: Path | None = None,
) -> TrainResult:
    """Train `network` in place on `images` and calibrate every width.

    Args:
        network: The network, on the device to train on; its teacher stays as it is.
        images: Training images; their labels are used only if `settings.label_weight` is not 0.
        settings: The recipe.
        out: Directory for the resumable states, the metrics and the views; None writes nothing.
        resume: Continue the run in `out`, bit for bit on the same CPU and number of threads.
        max_minutes: Let the schedule end by then: progress follows the clock where it is ahead of the epochs.
            Such a run depends on the machine's speed and is not reproduced bit for bit. The exit's own passes
            come after it.
        state_minutes: Besides after each epoch, the state is saved so often within one.
        stop: Asked after each step; if it says so the state is saved and the training returns.
        progress: Called after each step.
        epoch_done: Called after each epoch with its number from 0, with the averaged weights in place if
            there are any; the statistics are not calibrated then.
        started: Names of tensors in `network` that are not random, for `settings.start_rate`.
        views_folder: Where the views are kept, for runs that share them; None: in `out`.

    Raises:
        GateError: If a loss or gradient is not finite; `out` keeps the last good state.
        InputError: If the images do not fit, the state in `out` is of another run or of other images, or the
            disk is full.
        ArtifactError: If the states in `out` cannot be read.
    """
    check_input(network, images, settings, out)
    trainer = BottleneckTrainer(network, settings, started=started)
    position, data = Position(), data_facts(images)
    if out is not None and resume:
        position = resume_state(out, trainer, data)
        trim_metrics(out / METRICS, position.epochs)
    elif settings.linear_start:
        chosen = spread(len(images), settings.linear_start)
        start_linearly(network, torch.from_numpy(images.images[chosen]))
    run = _Run(trainer, data, out, views_folder, max_minutes, state_minutes, stop, progress)
    try:
        run.start(images, position)
    except _StoppedError:
        return TrainResult(steps=trainer.steps, elapsed_s=position.elapsed_s, finished=False)
    for epoch in range(position.epochs, settings.epochs):
        if not run.epoch(epoch):
            break
        if epoch_done is not None:
            with trainer.average.applied() if trainer.average is not None else contextlib.nullcontext():
                epoch_done(epoch)
        # Not before: a run that ends in between does it again.
        run.save_epoch(epoch)
        if run.stopped:
            break
    if not run.stopped:
        run.finish(images)
    return TrainResult(steps=trainer.steps, elapsed_s=run.clock.elapsed_s(), finished=not run.stopped)


class _StoppedError(Exception):
    """The training was told to stop where nothing has to be saved."""


class _Run:
    """The loop's state: where it stands, when it saved last, and whether it was told to stop."""

    def __init__(
        self,
        trainer: BottleneckTrainer,
        data: Mapping[str, Any],
        out: Path | None,
        views_folder: Path | None,
        max_minutes: float | None,
        state_minutes: float,
        stop: Callable[[], bool] | None,
        progress: Callable[[TrainProgress], None] | None,
    ) -> None:
        self.trainer, self.settings, self._data, self._out = trainer, trainer.settings, data, out
        self._views = views_folder or (out and out / VIEWS)
        self._limit_s = None if max_minutes is None else 60.0 * max_minutes
        self._state_s, self._stop, self._progress = 60.0 * state_minutes, stop, progress
        self.stopped = False

    def start(self, images: ImageSet, position: Position) -> None:
        """Make the views, if asked for, and start the clock."""
        network, views = self.trainer.network, None
        if self.settings.views and position.epochs < self.settings.epochs:
            assert self._views is not None
            pixels = torch.from_numpy(images.images)
            views = open_views(self._views, network, pixels, self.settings, progress=self._viewed)
        self._feed = Feed(images, self.settings, self.trainer.device, views)
        self._position = position
        self.clock = Clock(position.elapsed_s, self._limit_s)
        self._saved_s = self.clock.elapsed_s()

    def epoch(self, epoch: int) -> bool:
        """Run one epoch, or what is left of it; False if it is not finished: the time is up, or a stop."""
        first = self._position.step if epoch == self._position.epochs else 0
        tally = Tally(self._position.sums if first else None)
        order, trainer = self._feed.order(epoch), self.trainer
        for step in range(first, self._feed.steps):
            done = max(self._fraction(epoch, step), self.clock.fraction())
            if done >= 1.0:
                break
            batch = self._feed.batch(epoch, order, step)
            result = trainer.step(batch.images, done, labels=batch.labels, recall=batch.recall)
            tally.add(result.terms, result.bits)
            if self._progress is not None:
                fraction = min(1.0, max(self._fraction(epoch, step + 1), self.clock.fraction()))
                self._progress(
                    TrainProgress(
                        epoch=epoch,
                        epochs=self.settings.epochs,
                        step=trainer.steps,
                        fraction=fraction,
                        elapsed_s=self.clock.elapsed_s(),
                        terms=result.terms,
                        bits=result.bits,
                        learning_rate=result.learning_rate,
                    )
                )
            self.stopped = self._stop is not None and self._stop()
            due = self.clock.elapsed_s() - self._saved_s >= self._state_s
            if (self.stopped or due) and step + 1 < self._feed.steps:
                self._save(epoch, step + 1, tally)
            if self.stopped and step + 1 < self._feed.steps:
                return False
        if not tally.sums:
            return False
        self._note(epoch, tally)
        return True

    def save_epoch(self, epoch: int) -> None:
        """Save the state after a finished epoch."""
        self._save(epoch + 1, 0, Tally())

    def finish(self, images: ImageSet) -> None:
        """Put the averages in place, calibrate, and train the exit alone."""
        network, settings = self.trainer.network, self.settings
        if self.trainer.average is not None:
            self.trainer.average.apply()
        calibrate(
            network,
            images,
            kind=settings.calibration,
            augmentation=settings.augmentation,
            seed=settings.seed,
        )
        try:
            self._finish_exit(images)
        except _StoppedError:
            self.stopped = True
        network.eval()

    def _note(self, epoch: int, tally: Tally) -> None:
        if self._out is None:
            return
        rates = [group["lr"] for group in self.trainer.optimiser.param_groups]
        record = {
            "epoch": epoch,
            "steps": self.trainer.steps,
            "elapsed_s": round(self.clock.elapsed_s(), 1),
            "learning_rate": rates[0],
            "bits": {str(index): round(bits, 1) for index, bits in tally.bits().items()},
            **tally.terms(),
            "prices": self.trainer.price.prices,
        }
        append_metrics(self._out / METRICS, record)

    def _save(self, epochs: int, step: int, tally: Tally) -> None:
        if self._out is not None:
            elapsed_s = self.clock.elapsed_s()
            position = Position(epochs=epochs, step=step, elapsed_s=elapsed_s, sums=tally.sums)
            save_state(self._out, self.trainer, position, self._data)
            self._saved_s = elapsed_s

    def _fraction(self, epoch: int, step: int) -> float:
        return (epoch * self._feed.steps + step) / (self.settings.epochs * self._feed.steps)

    def _viewed(self, done: int, count: int) -> None:
        if self._progress is not None:
            self._progress(
                TrainProgress(
                    epoch=0,
                    epochs=self.settings.epochs,
                    step=0,
                    fraction=1e-9,
                    elapsed_s=0.0,
                    terms={"views drawn": done / count},
                )
            )
        self._ask_whether_to_stop()

    def _ask_whether_to_stop(self) -> None:
        if self._stop is not None and self._stop():
            raise _StoppedError

    def _finish_exit(self, images: ImageSet) -> None:
        settings, began_s = self.settings, self.clock.elapsed_s()

        def report(step: int, steps: int, loss: float) -> None:
            if self._progress is not None:
                self._progress(
                    TrainProgress(
                        epoch=(step - 1) * settings.exit_epochs // steps,
                        epochs=settings.exit_epochs,
                        step=self.trainer.steps + step,
                        fraction=step / steps,
                        elapsed_s=self.clock.elapsed_s() - began_s,
                        terms={"exit alone": loss},
                    )
                )
            self._ask_whether_to_stop()

        train_exit(
            self.trainer.network,
            torch.from_numpy(images.images),
            epochs=settings.exit_epochs,
            learning_rate=EXIT_SPEED * settings.learning_rate,
            temperature=settings.temperature,
            augmentation=settings.augmentation,
            seed=settings.seed,
            progress=report,
        )
