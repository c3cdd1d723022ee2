"""Accuracy over bytes: the front of a method, Bjøntegaard's mean difference, and what chance explains.

Pure arithmetic on numpy arrays; knows nothing of networks or codecs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

_CONFIDENCE = (2.5, 97.5)
# Sizes and scores of a method's settings.
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """One setting of one method, run over the images.

    Attributes:
        method: Whose curve it belongs to, e.g. "WebP".
        setting: Which point of it, e.g. "quality 40".
        sizes_n: int64 [n], bytes of each image's payload.
        answers_n: int64 [n], the class answered for each image.
        device_s: Median seconds that the device computes for one image, coding included.
        head_s: Those of the head alone; None where there is none.
        point: (width, channels) of a bottleneck's operating point.
    """

    method: str
    setting: str
    sizes_n: NDArray[np.int64]
    answers_n: NDArray[np.int64]
    device_s: float
    head_s: float | None = None
    point: tuple[float, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval over draws of images.

    Attributes:
        value: Of all images.
        low, high: Where 95 % of the draws lie.
        drawn: Share of the draws that have such a figure at all.
    """

    value: float
    low: float
    high: float
    drawn: float = 1.0

    def as_figures(self, scale: float = 1.0, digits: int = 3) -> dict[str, float]:
        """Return the three numbers times `scale`, rounded, and the percentage of draws unless it is all."""
        return {
            "value": round(scale * self.value, digits),
            "low": round(scale * self.low, digits),
            "high": round(scale * self.high, digits),
            **({} if self.drawn == 1.0 else {"drawn_percent": round(100 * self.drawn, 1)}),
        }


def front(sizes: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the indices of the points that no other beats in both, by size: both then ascend strictly."""
    kept: list[int] = []
    best = -np.inf
    for index in np.lexsort((-scores, sizes)):
        if scores[index] > best:
            kept.append(int(index))
            best = scores[index]
    return np.array(kept, dtype=np.int64)


def mean_log_ratio(ours: Curve, theirs: Curve, low: float, high: float) -> float | None:
    """Return the mean of ln(our bytes / their bytes) at equal scores in [low, high], or None.

    G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001, with
    monotone cubic pieces (Fritsch and Carlson) through the fronts instead of one polynomial, which would
    swing between points. Integrated is the `shared_stretch` of [low, high]; None where there is none.

    Args:
        ours: Sizes and scores of one method's settings.
        theirs: Those of the other.
        low: Least score compared.
        high: Largest.
    """
    stretch = shared_stretch(ours, theirs, low, high)
    if stretch is None:
        return None
    mine, other = (float(_log_size(*curve).integrate(*stretch)) for curve in (ours, theirs))
    return (mine - other) / (stretch[1] - stretch[0])


def shared_stretch(ours: Curve, theirs: Curve, low: float, high: float) -> tuple[float, float] | None:
    """Return the part of [low, high] that both fronts span, or None: a front of one point spans nothing.

    A setting off its front, even the one with the least score, is on no curve.
    """
    fronts = [scores[front(sizes, scores)] for sizes, scores in (ours, theirs)]
    low = max([low, *(float(scores[0]) for scores in fronts)])
    high = min([high, *(float(scores[-1]) for scores in fronts)])
    return (low, high) if high > low else None


def _log_size(sizes: NDArray[np.float64], scores: NDArray[np.float64]) -> PchipInterpolator:
    kept = front(sizes, scores)
    return PchipInterpolator(scores[kept], np.log(sizes[kept]))


def least_bytes(sizes: NDArray[np.float64], scores: NDArray[np.float64], wanted: float) -> float | None:
    """Return the bytes of the smallest setting, as measured, that scores at least `wanted`, or None."""
    enough = sizes[scores >= wanted - 1e-9]
    return float(enough.min()) if len(enough) else None


class Images:
    """The images all settings were run over: their truth, and the draws that say what chance explains.

    Every figure is taken on the same draws of images (with replacement), so that differences are paired.
    """

    def __init__(self, truth_n: NDArray[np.int64], *, draws: int = 1000, seed: int = 0) -> None:
        """Take the right answer per image, how many draws, and their seed."""
        self.truth_n = truth_n
        count = len(truth_n)
        self.draws = np.random.default_rng(seed).integers(0, count, (draws, count))

    def scores(self, setting: Setting) -> NDArray[np.float64]:
        """Return the share of right answers on all images, then on every draw: [1 + draws]."""
        right = (setting.answers_n == self.truth_n).astype(np.float64)
        return np.concatenate([[right.mean()], right[self.draws].mean(axis=1)])

    def sizes(self, setting: Setting) -> NDArray[np.float64]:
        """Return mean bytes on all images, then on every draw: [1 + draws]."""
        values = setting.sizes_n.astype(np.float64)
        return np.concatenate([[values.mean()], values[self.draws].mean(axis=1)])

    def difference(self, setting: Setting, base: Setting) -> Interval:
        """Return the score of `setting` minus that of `base`, paired."""
        return interval(self.scores(setting) - self.scores(base))

    def bjontegaard(
        self,
        ours: Sequence[Setting],
        theirs: Sequence[Setting],
        teacher: Setting,
        *,
        below: tuple[float, float],
    ) -> Interval | None:
        """Return the mean rate difference, −0.67 for a third of the bytes, or None where nothing is shared.

        In some draws curves that barely meet have nothing in common: the interval is one of the others.

        Args:
            ours: Settings of one method.
            theirs: Of another, or of several as one envelope.
            teacher: The uncut network, from whose score the stretch is counted.
            below: Points below the teacher where the stretch begins and ends, e.g. (0.10, 0.01).
        """
        mine, other = self._curves(ours), self._curves(theirs)
        base = self.scores(teacher)
        ratios = []
        for column in range(len(base)):
            ratio = mean_log_ratio(
                (mine[0][:, column], mine[1][:, column]),
                (other[0][:, column], other[1][:, column]),
                base[column] - below[0],
                base[column] - below[1],
            )
            if ratio is None and column == 0:
                return None
            if ratio is not None:
                ratios.append(np.expm1(ratio))
        found = interval(np.array(ratios))
        return replace(found, drawn=(len(ratios) - 1) / max(1, len(base) - 1))

    def stretch(
        self,
        ours: Sequence[Setting],
        theirs: Sequence[Setting],
        teacher: Setting,
        *,
        below: tuple[float, float],
    ) -> tuple[float, float] | None:
        """Return the scores, on all images, over which `bjontegaard` of the same arguments integrates."""
        mine, other = (
            (sizes[:, 0], scores[:, 0]) for sizes, scores in (self._curves(ours), self._curves(theirs))
        )
        base = float(self.scores(teacher)[0])
        return shared_stretch(mine, other, base - below[0], base - below[1])

    def _curves(self, settings: Sequence[Setting]) -> Curve:
        """Return sizes and scores, each [settings, 1 + draws]."""
        return np.stack([self.sizes(one) for one in settings]), np.stack(
            [self.scores(one) for one in settings]
        )


def interval(values: NDArray[np.float64]) -> Interval:
    """Return the first of `values`, the figure itself, with the 95 % interval of the others, its draws."""
    low, high = np.percentile(values[1:], _CONFIDENCE) if len(values) > 1 else (values[0], values[0])
    return Interval(value=float(values[0]), low=float(low), high=float(high))
