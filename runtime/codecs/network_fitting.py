"""Fit a channel's context network to sample latents.

Runs at export only, in floating point; what comes out is rounded to the integers of `contexts.py`, and both
ends read those. The loss is the cost of the values in bits, were they distributed by a logistic around the
network's expected value with the network's scale; stochastic gradient descent with Adam (Kingma and Ba,
arXiv:1412.6980) and a cosine schedule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs.contexts import (
    BIAS_LIMIT,
    CROSS,
    EDGES,
    HIDDEN,
    HIDDEN_SHIFT,
    MAX_PARENTS,
    OUTPUT_SHIFT,
    PHASES,
    ContextNetwork,
    gather,
)

CLASSES_PER_OCTAVE: Final = 3
_FINEST: Final = 0.03  # the logistic's scale in class 0; anything finer is one value for certain
_WEIGHT_ONE: Final = 1 << 10  # of a hidden weight
_HIDDEN_ONE: Final = _WEIGHT_ONE >> HIDDEN_SHIFT
_OUTPUT_ONE: Final = (1 << OUTPUT_SHIFT) // _HIDDEN_ONE
_STEPS: Final = 1000
_STEPS_FROM_START: Final = 600
_STEPS_TO_CHOOSE: Final = 150
_BATCH: Final = 512
_ENOUGH: Final = 1 << 14  # values that standard deviations are taken of
_RATE: Final = 0.02
_MISS: Final = 2e-4  # probability left to what the logistic holds for impossible

Floats = NDArray[np.float32]


@dataclass(slots=True)
class FloatNetwork:
    """A network before it is rounded; inputs are divided by `unit`, outputs are in units of the channel.

    Attributes:
        parents: As in `ContextNetwork`.
        unit: float32 [inputs].
        centre, spread: Of the channel: mean, and about its logistic scale.
        parameters: Hidden weight and bias, output weight and bias.
    """

    parents: tuple[int, ...]
    unit: Floats
    centre: float
    spread: float
    parameters: list[Floats]

    def cost(self, inputs: NDArray[np.int16], values: Floats) -> float:
        """Return the mean bits of values less 128, float32 [n]."""
        weight, bias, output, offset = self.parameters
        outputs = np.maximum(inputs / self.unit @ weight + bias, 0) @ output + offset
        likely, _ = _likelihood(outputs, values, self.centre, self.spread)
        return float(-np.log2(likely).mean())

    def rounded(self) -> ContextNetwork:
        """Return the integers: quarters of a level, and scale classes of a third of an octave."""
        weight, bias, output, offset = (array.astype(np.float64) for array in self.parameters)
        per_class = CLASSES_PER_OCTAVE / math.log(2)
        units = np.array([self.spread * PHASES, per_class])
        zero = np.array([self.centre * PHASES, per_class * math.log(self.spread / _FINEST)])
        return ContextNetwork(
            parents=self.parents,
            hidden_weight=_integers(weight / self.unit[:, None] * _WEIGHT_ONE, 2**15 - 1, np.int16),
            hidden_bias=_integers(bias * _WEIGHT_ONE, BIAS_LIMIT, np.int32),
            output_weight=_integers(output * units * _OUTPUT_ONE, 2**15 - 1, np.int16),
            output_bias=_integers((offset * units + zero + 0.5) * (1 << OUTPUT_SHIFT), BIAS_LIMIT, np.int32),
        )


def kept_out(latents: int) -> NDArray[np.bool_]:
    """Return which of so many latents a fit does not see: every eighth."""
    kept: NDArray[np.bool_] = np.arange(latents) % 8 == 0
    return kept


def fit_network(
    padded: NDArray[np.int16], channel: int, start: FloatNetwork | None
) -> tuple[FloatNetwork, float]:
    """Return a network for `channel`, and its mean bits a value on every eighth latent, kept out of the fit.

    Args:
        padded: int16 [N, 1 + C, H + 2, W + 2], as `contexts.pad` returns it; at least 8 latents.
        channel: Whose values to predict.
        start: The network of the same channel in a width fitted before, to go on from.
    """
    rng = np.random.default_rng(channel)
    kept = kept_out(len(padded))
    train, test = padded[~kept], padded[kept]
    values = train[:, 1 + channel, 1:-1, 1:-1].reshape(-1).astype(np.float32)
    parents = start.parents if start is not None else _choose_parents(train, values, channel, rng)
    inputs = gather(train, channel, parents)
    if start is None:
        network = _fresh(inputs, values, parents, rng)
        _descend(network, inputs, values, steps=_STEPS, rng=rng)
    else:
        network = FloatNetwork(
            parents, start.unit, start.centre, start.spread, [array.copy() for array in start.parameters]
        )
        _descend(network, inputs, values, steps=_STEPS_FROM_START, rng=rng)
    seen = test[:, 1 + channel, 1:-1, 1:-1].reshape(-1).astype(np.float32)
    return network, network.cost(gather(test, channel, parents), seen)


def _choose_parents(
    train: NDArray[np.int16], values: Floats, channel: int, rng: np.random.Generator
) -> tuple[int, ...]:
    """Return the earlier channels that a short fit on all of them leans on most."""
    everyone = tuple(range(channel))
    if channel <= MAX_PARENTS:
        return everyone
    plane = values.size // len(train)
    few = max(1, len(train) * plane // 65_536)
    inputs, values = gather(train[::few], channel, everyone), values.reshape(-1, plane)[::few].reshape(-1)
    network = _fresh(inputs, values, everyone, rng)
    _descend(network, inputs, values, steps=_STEPS_TO_CHOOSE, rng=rng)
    weight, _, output, _ = network.parameters
    felt = weight * (inputs[:: max(1, len(inputs) // _ENOUGH)].std(axis=0) / network.unit)[:, None]
    pull = felt**2 @ (output**2).sum(axis=1)
    own = pull[len(EDGES) : len(EDGES) + len(CROSS) * channel].reshape(channel, len(CROSS)).sum(axis=1)
    return tuple(sorted(np.argsort(-own, kind="stable")[:MAX_PARENTS].tolist()))


def _fresh(
    inputs: NDArray[np.int16], values: Floats, parents: tuple[int, ...], rng: np.random.Generator
) -> FloatNetwork:
    count = inputs.shape[1]
    some = inputs[:: max(1, len(inputs) // _ENOUGH)]
    unit = (some.std(axis=0) + 0.5 * some.std() + 1e-3).astype(np.float32)
    return FloatNetwork(
        parents=parents,
        unit=unit,
        centre=float(values.mean()),
        spread=0.55 * float(values.std()) + 0.05,
        parameters=[
            (rng.normal(size=(count, HIDDEN)) / math.sqrt(count)).astype(np.float32),
            np.full(HIDDEN, 0.1, np.float32),
            (0.1 * rng.normal(size=(HIDDEN, 2))).astype(np.float32),
            np.zeros(2, np.float32),
        ],
    )


def _descend(
    network: FloatNetwork,
    inputs: NDArray[np.int16],
    values: Floats,
    *,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """Fit the parameters in place; they become views of one vector, so that Adam is few calls a step."""
    everything = np.concatenate([array.reshape(-1) for array in network.parameters])
    slopes, mean, square = (np.zeros_like(everything) for _ in range(3))
    network.parameters = _views(everything, network.parameters)
    by_part = _views(slopes, network.parameters)
    scaled = (inputs / network.unit).astype(np.float32, copy=False)
    batches = rng.integers(0, len(values), (steps, _BATCH))
    for step, batch in enumerate(batches, start=1):
        _slopes(network, scaled.take(batch, axis=0), values.take(batch), by_part)
        now = _RATE * min(1.0, 10 * step / steps) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        mean += 0.1 * (slopes - mean)
        square += 0.01 * (slopes * slopes - square)
        scale = np.sqrt(square / (1 - 0.99**step)) + 1e-8
        everything -= now / (1 - 0.9**step) * mean / scale


def _views(vector: Floats, parts: list[Floats]) -> list[Floats]:
    """Return `vector` cut into arrays of the shapes of `parts`, which share its memory."""
    ends = np.cumsum([part.size for part in parts])
    return [vector[end - part.size : end].reshape(part.shape) for part, end in zip(parts, ends, strict=True)]


def _slopes(network: FloatNetwork, inputs: Floats, values: Floats, into: list[Floats]) -> None:
    """Write the gradient of the mean cost in nats by each parameter."""
    weight, bias, output, offset = network.parameters
    hidden: Floats = inputs @ weight + bias
    np.maximum(hidden, 0, out=hidden)
    likely, by_output = _likelihood(hidden @ output + offset, values, network.centre, network.spread)
    by_output /= (-len(values) * likely)[:, None]
    by_sum = by_output @ output.T
    by_sum *= hidden > 0
    ones = np.ones(len(values), np.float32)  # numpy sums down columns more slowly than it multiplies
    found = (inputs.T @ by_sum, ones @ by_sum, hidden.T @ by_output, ones @ by_output)
    for slope, by_parameter in zip(into, found, strict=True):
        slope[...] = by_parameter


def _likelihood(outputs: Floats, values: Floats, centre: float, spread: float) -> tuple[Floats, Floats]:
    """Return the probability of each value [n], and its gradient by `outputs` [n, 2]."""
    scale = spread * np.exp(outputs[:, 1].clip(-5, 3))
    off = values - centre - spread * outputs[:, 0]
    above, below = ((off + 0.5) / scale).clip(-40, 40), ((off - 0.5) / scale).clip(-40, 40)
    upper, lower = 1 / (1 + np.exp(-above)), 1 / (1 + np.exp(-below))
    likely = upper - lower + _MISS
    up, low = upper * (1 - upper), lower * (1 - lower)
    slopes = np.empty_like(outputs)
    slopes[:, 0] = (low - up) * (spread / scale)
    slopes[:, 1] = below * low - above * up
    return likely, slopes


def _integers(values: NDArray[np.float64], limit: int, dtype: type[np.signedinteger]) -> NDArray:  # type: ignore[type-arg]
    return np.clip(np.rint(values), -limit, limit).astype(dtype)
