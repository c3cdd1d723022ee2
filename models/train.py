"""Train a bottleneck: run the epochs, report, keep what resumes the run, calibrate at the end.

The loop around `BottleneckTrainer`; it is the one place here that reads the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from isthmus.models.exit_training import train_exit
from isthmus.models.progress import TrainProgress
from isthmus.models.run_state import METRICS, STATE, Position, append_metrics, resume_state, save_state
from isthmus.models.split_network import SplitNetwork
from isthmus.models.trainer import EXIT_SPEED, BottleneckTrainer, StepResult, TrainSettings
from isthmus.runtime.datasets import ImageSet, spread
from isthmus.runtime.errors import InputError

__all__ = ["TrainResult", "TrainSettings", "calibrate", "train_bottleneck"]

# Images for the BatchNorm statistics of each width; more change the fourth digit.
_CALIBRATION_IMAGES, _CALIBRATION_BATCH = 4096, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a training ended: its steps and the seconds they took, over all resumptions."""

    steps: int
    elapsed_s: float


def train_bottleneck(
    network: SplitNetwork,
    images: ImageSet,
    settings: TrainSettings,
    *,
    out: Path | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
    epoch_done: Callable[[int], None] | None = None,
) -> TrainResult:
    """Train `network` in place on `images` and calibrate every width.

    Args:
        network: The network; its teacher stays as it is.
        images: Training images; their labels are not used.
        settings: The recipe.
        out: Directory for the resumable state (after each epoch) and the metrics; None writes nothing.
        resume: Continue the run in `out`, bit for bit on the same CPU and number of threads.
        max_minutes: Let the schedule end by then: progress follows the clock where it is ahead of the epochs.
            Such a run depends on the machine's speed and is not reproduced bit for bit. The exit's own passes
            come after it.
        progress: Called after each step.
        epoch_done: Called after each epoch with its number from 0; the statistics are not calibrated then.

    Raises:
        GateError: If a loss or gradient is not finite; `out` keeps the state after the last good epoch.
        InputError: If the images do not fit, or the state in `out` is of another run.
        ArtifactError: If the state in `out` cannot be read.
    """
    _check(network, images, settings)
    trainer = BottleneckTrainer(network, settings)
    position = resume_state(out / STATE, trainer) if out is not None and resume else Position()
    clock = _Clock(position.elapsed_s, None if max_minutes is None else 60.0 * max_minutes)
    pixels = torch.from_numpy(images.images)
    for epoch in range(position.epochs, settings.epochs):
        last = _run_epoch(trainer, pixels, epoch, clock, progress)
        if last is None:
            break
        if out is not None:
            save_state(out / STATE, trainer, Position(epochs=epoch + 1, elapsed_s=clock.elapsed_s()))
            record = {"epoch": epoch, "elapsed_s": round(clock.elapsed_s(), 1), "bits": last.bits}
            append_metrics(out / METRICS, {**record, **last.terms, "prices": list(trainer.price.prices)})
        if epoch_done is not None:
            epoch_done(epoch)
    calibrate(network, images)
    _finish_exit(trainer, pixels, clock, progress)
    network.eval()
    return TrainResult(steps=trainer.steps, elapsed_s=clock.elapsed_s())


def calibrate(network: SplitNetwork, images: ImageSet) -> None:
    """Measure the statistics of every width on up to 4,096 of `images`, evenly spread, unaugmented."""
    chosen = torch.from_numpy(images.images[spread(len(images), _CALIBRATION_IMAGES)])
    network.calibrate([batch for batch in torch.split(chosen, _CALIBRATION_BATCH) if len(batch) > 1])


class _Clock:
    """Seconds of a run, counted on over resumptions."""

    def __init__(self, before_s: float, limit_s: float | None) -> None:
        self._started, self._before_s, self.limit_s = time.monotonic(), before_s, limit_s

    def elapsed_s(self) -> float:
        return self._before_s + time.monotonic() - self._started

    def fraction(self) -> float:
        """Return the share of the time limit that has passed, 0 without one."""
        return 0.0 if self.limit_s is None else self.elapsed_s() / self.limit_s


def _run_epoch(
    trainer: BottleneckTrainer,
    pixels_nhwc: Tensor,
    epoch: int,
    clock: _Clock,
    progress: Callable[[TrainProgress], None] | None,
) -> StepResult | None:
    """Run one epoch and return the mean of its steps, or None if the time was up before its first."""
    settings = trainer.settings
    size = min(settings.batch_size, len(pixels_nhwc))
    steps = len(pixels_nhwc) // size
    order = torch.randperm(len(pixels_nhwc), generator=trainer.generator)
    results: list[StepResult] = []
    for step in range(steps):
        done = max((epoch * steps + step) / (settings.epochs * steps), clock.fraction())
        if done >= 1.0:
            break
        results.append(trainer.step(pixels_nhwc[order[step * size :][:size]], done))
        if progress is not None:
            progress(
                TrainProgress(
                    epoch=epoch,
                    epochs=settings.epochs,
                    step=trainer.steps,
                    fraction=min(
                        1.0, max((epoch * steps + step + 1) / (settings.epochs * steps), clock.fraction())
                    ),
                    elapsed_s=clock.elapsed_s(),
                    terms=results[-1].terms,
                    bits=results[-1].bits,
                )
            )
    return _mean(results) if results else None


def _finish_exit(
    trainer: BottleneckTrainer,
    pixels_nhwc: Tensor,
    clock: _Clock,
    progress: Callable[[TrainProgress], None] | None,
) -> None:
    settings, began_s = trainer.settings, clock.elapsed_s()

    def report(step: int, steps: int, loss: float) -> None:
        if progress is not None:
            progress(
                TrainProgress(
                    epoch=(step - 1) * settings.exit_epochs // steps,
                    epochs=settings.exit_epochs,
                    step=trainer.steps + step,
                    fraction=step / steps,
                    elapsed_s=clock.elapsed_s() - began_s,
                    terms={"exit alone": loss},
                    bits=None,
                )
            )

    train_exit(
        trainer.network,
        pixels_nhwc,
        epochs=settings.exit_epochs,
        learning_rate=EXIT_SPEED * settings.learning_rate,
        temperature=settings.temperature,
        augmentation=settings.augmentation,
        seed=settings.seed,
        progress=report,
    )


def _mean(results: list[StepResult]) -> StepResult:
    names = {name: None for result in results for name in result.terms}
    terms = {}
    for name in names:
        values = [result.terms[name] for result in results if name in result.terms]
        terms[name] = sum(values) / len(values)
    return StepResult(terms=terms, bits=sum(result.bits for result in results) / len(results))


def _check(network: SplitNetwork, images: ImageSet, settings: TrainSettings) -> None:
    config = network.config
    wanted = (config.input_height, config.input_width, config.input_channels)
    if images.shape_hwc != wanted:
        raise InputError(f"{images.name}: images are {images.shape_hwc}, the network takes {wanted}")
    if len(images) < 2 or settings.batch_size < 2:
        raise InputError(
            f"{images.name}: {len(images)} images in batches of {settings.batch_size}; "
            "BatchNorm needs at least 2"
        )
    if settings.epochs < 1:
        raise InputError(f"{settings.epochs} epochs: give at least 1")
