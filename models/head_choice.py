"""Choose for every width whether its head computes in 8 bits or in 32.

Decides by what both are worth and how long they take, measured on the files that would ship: an 8-bit head
that costs more accuracy than the gate allows, or that is hardly faster, is not shipped, and the reason told.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from isthmus.models.int8_head import ENTRIES, write_int8_head
from isthmus.models.measure import median_seconds
from isthmus.runtime.bundle import Manifest
from isthmus.runtime.bundle.networks import BundleNetworks, Network, with_absent
from isthmus.runtime.datasets import ImageSet, spread
from isthmus.runtime.errors import InputError

Heads = Literal["fp32", "int8", "auto"]

MAX_LOSS = 0.003
MIN_SPEEDUP = 1.1
_CALIBRATION_IMAGES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Figures:
    """An 8-bit head beside the 32-bit one of the same width, on the same images.

    Attributes:
        entry: Where its integers begin, see `write_int8_head`.
        speedup: Seconds of the 32-bit head over its own, medians taken in turns.
        loss: Utility it loses, in [−1, 1], averaged over the middle and the largest channel count.
        margin: Half the width of the 95 % interval of `loss`, paired by image.
        agreement: Share of images that get the same answer with all channels.
    """

    entry: str
    speedup: float
    loss: float
    margin: float
    agreement: float

    def __str__(self) -> str:
        return (
            f"{self.speedup:.2f} times as fast, loses {100 * self.loss:.2f} ± {100 * self.margin:.2f} points"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadChoice:
    """Which head a width ships, and why; `figures` is None where no 8-bit head could be made."""

    file: str
    precision: Literal["fp32", "int8"]
    reason: str
    figures: Int8Figures | None = None

    def __str__(self) -> str:
        return f"{self.file} {self.precision}: {self.reason}"


def choose_heads(
    modules: Sequence[nn.Module],
    networks: BundleNetworks,
    timed: BundleNetworks,
    *,
    root: Path,
    wanted: Literal["int8", "auto"],
    manifest: Manifest,
    fitting: ImageSet,
    measured: ImageSet,
    threads: int,
    progress: Callable[[str], None],
) -> list[HeadChoice]:
    """Replace, in the bundle under construction in `root`, the heads that are better in 8 bits.

    Args:
        modules: The torch head of every width.
        networks: The files written so far, opened; their heads compute in 32 bits.
        timed: The same, with `threads` threads.
        root: Where files named as the heads are written.
        wanted: "auto" ships an 8-bit head only where it is faster here, "int8" wherever it is accurate.
        manifest: For the operating points and what absent channels become.
        fitting: Training images, to calibrate by.
        measured: Other images, by which utilities are compared.
        threads: Of a head while it is timed.
        progress: Called with what is being done.
    """
    calibration = fitting.images[spread(len(fitting), _CALIBRATION_IMAGES)]
    counts = sorted({point.channels for point in manifest.points})
    answers = Answers(networks.tail, counts, manifest.latent.zero_points, measured)
    choices = []
    for module, head, in_turn in zip(modules, networks.heads, timed.heads, strict=True):
        progress(f"{head.name} in 8 bits")
        expected = answers.right(head)
        with tempfile.TemporaryDirectory() as folder:
            try:
                candidates = _candidates(module, calibration, Path(folder), threads)
            except InputError as error:
                choices.append(HeadChoice(file=head.name, precision="fp32", reason=f"no int8: {error}"))
                continue
            seconds = median_seconds(
                [(network, measured.images[:1]) for network in (in_turn, *candidates.values())]
            )
            found: dict[str, Int8Figures] = {}
            # The fastest that is accurate enough will do: the others need not answer at all.
            for entry, network in sorted(candidates.items(), key=lambda item: seconds[item[0]]):
                speedup = seconds[in_turn.name] / seconds[entry]
                found[entry] = compare(entry, speedup, expected, answers.right(network))
                if found[entry].loss <= MAX_LOSS:
                    break
            choice = _choice(head.name, found, wanted)
            if choice.precision == "int8" and choice.figures is not None:
                (root / head.name).write_bytes((Path(folder) / choice.figures.entry).read_bytes())
        choices.append(choice)
    return choices


def _candidates(
    module: nn.Module, calibration_nhwc: NDArray[np.uint8], folder: Path, threads: int
) -> dict[str, Network]:
    networks: dict[str, Network] = {}
    for entry in ENTRIES:
        write_int8_head(module, calibration_nhwc, folder / entry, entry=entry)
        networks[entry] = Network(entry, (folder / entry).read_bytes(), threads=threads)
    return networks


class Answers:
    """What the tail answers to a head, at the middle and the largest of the channel counts."""

    def __init__(
        self, tail: Network, counts: Sequence[int], zero_points: Sequence[int], images: ImageSet
    ) -> None:
        """Take the tail, all channel counts, ascending, what absent channels become, and labelled images."""
        # Two counts halve the noise of one and take a fraction of the time of all.
        self._counts = sorted({counts[len(counts) // 2], counts[-1]})
        self._tail, self._zero_points, self._images = tail, zero_points, images

    def right(self, head: Network) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return which answers are right, [counts, images], and the classes answered with all channels."""
        latents = head.run(self._images.images)
        classes = [
            self._tail.run(with_absent(latents, count, self._zero_points)).argmax(axis=1)
            for count in self._counts
        ]
        return np.stack(classes) == self._images.labels, classes[-1]


def compare(entry: str, speedup: float, expected: tuple[Any, Any], found: tuple[Any, Any]) -> Int8Figures:
    """Return what an 8-bit head is worth whose `Answers` are `found`, where 32 bits give `expected`."""
    differences = (expected[0].astype(float) - found[0]).mean(axis=0)
    return Int8Figures(
        entry=entry,
        speedup=speedup,
        loss=float(differences.mean()),
        margin=float(1.96 * differences.std() / max(len(differences), 1) ** 0.5),
        agreement=float((expected[1] == found[1]).mean()),
    )


def _choice(file: str, found: dict[str, Int8Figures], wanted: Literal["int8", "auto"]) -> HeadChoice:
    """Return the fastest that is accurate enough, or why none is shipped."""
    accurate = [figures for figures in found.values() if figures.loss <= MAX_LOSS]
    best = max(accurate or found.values(), key=lambda figures: figures.speedup)
    if not accurate:
        reason, precision = f"int8 {best}, allowed are {100 * MAX_LOSS:g}", "fp32"
    elif wanted == "auto" and best.speedup < MIN_SPEEDUP:
        reason, precision = f"int8 is only {best}, {MIN_SPEEDUP:g} times are asked for", "fp32"
    else:
        reason, precision = str(best), "int8"
    return HeadChoice(
        file=file, precision="int8" if precision == "int8" else "fp32", reason=reason, figures=best
    )
