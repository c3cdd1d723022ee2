"""How long something takes, as a distribution: constant, measured samples, or lognormal.

Pure: the source of randomness is an argument. Times are seconds and never negative.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Protocol

from isthmus.runtime.errors import InputError


class Distribution(Protocol):
    """A distribution of seconds."""

    @property
    def mean_s(self) -> float:
        """The expected value."""
        ...

    @property
    def median_s(self) -> float:
        """The value that half of all draws do not exceed."""
        ...

    def draw(self, rng: random.Random) -> float:
        """Return one value."""
        ...

    def scaled(self, factor: float) -> Distribution:
        """Return the distribution of `factor` times the value."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same.

    Raises:
        InputError: If `seconds` is negative or not finite.
    """

    seconds: float

    def __post_init__(self) -> None:
        _check("a constant of", self.seconds)

    @property
    def mean_s(self) -> float:
        """See `Distribution`."""
        return self.seconds

    @property
    def median_s(self) -> float:
        """See `Distribution`."""
        return self.seconds

    def draw(self, rng: random.Random) -> float:
        """See `Distribution`."""
        return self.seconds

    def scaled(self, factor: float) -> Constant:
        """See `Distribution`."""
        return Constant(self.seconds * factor)


@dataclass(frozen=True, slots=True)
class Empirical:
    """One of the measured samples, each as likely as the others.

    Raises:
        InputError: If there is no sample, or one is negative or not finite.
    """

    samples_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_s:
            raise InputError("a measured distribution without samples; measure at least one")
        for sample_s in self.samples_s:
            _check("a sample of", sample_s)

    @property
    def mean_s(self) -> float:
        """See `Distribution`."""
        return fmean(self.samples_s)

    @property
    def median_s(self) -> float:
        """See `Distribution`."""
        return median(self.samples_s)

    def draw(self, rng: random.Random) -> float:
        """See `Distribution`."""
        # Quicker than rng.choice, which a simulated second calls hundreds of times.
        return self.samples_s[int(rng.random() * len(self.samples_s))]

    def scaled(self, factor: float) -> Empirical:
        """See `Distribution`."""
        return Empirical(tuple(sample_s * factor for sample_s in self.samples_s))


@dataclass(frozen=True, slots=True)
class Lognormal:
    """exp(N(ln `middle_s`, `sigma`²)): delays that are never negative and have a long tail.

    Raises:
        InputError: If the median is not positive or the spread is negative.
    """

    middle_s: float
    sigma: float
    _mu: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check("a median of", self.middle_s)
        if self.middle_s == 0 or not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise InputError(
                f"a lognormal time of median {self.middle_s:g} s and sigma {self.sigma:g}; "
                "give a positive median and a sigma of 0 or more"
            )
        object.__setattr__(self, "_mu", math.log(self.middle_s))

    @classmethod
    def fitted(cls, samples_s: Iterable[float]) -> Lognormal:
        """Return the distribution whose logarithm has the mean and spread of the positive `samples_s`.

        Raises:
            InputError: If there are fewer than two.
        """
        logs = [math.log(sample_s) for sample_s in samples_s if sample_s > 0]
        if len(logs) < 2:
            raise InputError(f"{len(logs)} positive samples; a lognormal fit needs two or more")
        return cls(math.exp(fmean(logs)), stdev(logs))

    @property
    def mean_s(self) -> float:
        """See `Distribution`."""
        return math.exp(self._mu + self.sigma**2 / 2)

    @property
    def median_s(self) -> float:
        """See `Distribution`."""
        return self.middle_s

    def draw(self, rng: random.Random) -> float:
        """See `Distribution`."""
        return rng.lognormvariate(self._mu, self.sigma)

    def scaled(self, factor: float) -> Lognormal:
        """See `Distribution`."""
        return Lognormal(self.middle_s * factor, self.sigma)


def _check(what: str, seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"{what} {seconds} s; give finite seconds, 0 or more")
