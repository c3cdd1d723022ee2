"""Contexts: what the values decoded so far say about the next one, in integers alone.

A channel may have a *context network*: a few already decoded values go in; out come the value to expect, in
quarters of a level, and how far from it the true one may be, as one of a few scale classes. The quarter and
the class choose a table, shared by all channels of a width, and what is coded is the difference from the
expected value. A channel without a network has one table of its own, and its values are coded as they are.

Inputs, in this order: four that are `INSIDE`, but 0 in the last row, the first row, the last column, the
first column; in each parent (an earlier channel) the pixel itself and those above, below, left and right; in
the channel itself the pixels to the upper left, above, to the upper right and to the left. Values count from
128, and pixels outside are 0.

On latents of trained bottlenecks this spares 10 % (CIFAR-10) to 35 % (digits) of the bytes that one table a
channel needs, for about 20 to 35 ns a symbol in C; benchmarks/METHODOLOGY.md has what simpler contexts spare.

Exact on every machine: weights are 16 bits wide, no sum passes 31 bits (`ContextNetwork` checks its biases),
shifts round towards minus infinity. What numpy multiplies in float64 are integers below 2^53.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PHASES: Final = 4  # tables per scale class: quarters of a level that the expected value is off an integer
HIDDEN: Final = 16
MAX_PARENTS: Final = 8
INSIDE: Final = 16  # what a pixel inside the latent shows to the four inputs that feel for its edges

HIDDEN_SHIFT: Final = 4
HIDDEN_LIMIT: Final = 2047  # 16 weights of 2^15 times this stay below 2^30
OUTPUT_SHIFT: Final = 16
BIAS_LIMIT: Final = 1 << 29

EDGES: Final = ((1, 0), (-1, 0), (0, 1), (0, -1))
CROSS: Final = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
CAUSAL: Final = ((-1, -1), (-1, 0), (-1, 1), (0, -1))

# What the C coder reads of a channel, in the machine's byte order; weights of two inputs lie side by side.
MAX_PAIRS: Final = (len(EDGES) + len(CROSS) * MAX_PARENTS + len(CAUSAL)) // 2
PROGRAM: Final = np.dtype(
    [
        ("table", "=i4"),
        ("classes", "=i4"),
        ("parents", "=i4"),
        ("parent", "=i4", (MAX_PARENTS,)),
        ("hidden_bias", "=i4", (HIDDEN,)),
        ("output_bias", "=i4", (2,)),
        ("output_weight", "=i2", (2, HIDDEN)),
        ("hidden_weight", "=i2", (MAX_PAIRS, HIDDEN, 2)),
    ]
)


def input_count(parents: int) -> int:
    """Return how many inputs a network with that many parents has."""
    return len(EDGES) + len(CROSS) * parents + len(CAUSAL)


@dataclass(frozen=True)
class ContextNetwork:
    """One channel's network: inputs to 16 rectified sums, and those to two numbers.

    Attributes:
        parents: Earlier channels that it looks at, at most 8.
        hidden_weight: int16 [inputs, 16].
        hidden_bias: int32 [16].
        output_weight: int16 [16, 2], for the expected value and the scale class.
        output_bias: int32 [2].
    """

    parents: tuple[int, ...]
    hidden_weight: NDArray[np.int16]
    hidden_bias: NDArray[np.int32]
    output_weight: NDArray[np.int16]
    output_bias: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Refuse biases with which a sum could pass 31 bits, with a ValueError."""
        biases = np.concatenate([self.hidden_bias, self.output_bias]).astype(np.int64)
        if np.abs(biases).max() > BIAS_LIMIT:
            raise ValueError(f"a bias of a context network passes {BIAS_LIMIT}")

    def outputs(self, inputs: NDArray[np.int16]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return expected value less 128, in quarters, and scale class, not yet clipped, of inputs [n, i]."""
        sums = inputs.astype(np.float64) @ self.hidden_weight.astype(np.float64)
        sums += self.hidden_bias
        # As `finish`, in floating point: numpy multiplies integers one by one.
        sums *= 2.0**-HIDDEN_SHIFT
        np.floor(sums, out=sums)
        np.clip(sums, 0, HIDDEN_LIMIT, out=sums)
        both = sums @ self.output_weight.astype(np.float64) + self.output_bias
        whole = both.astype(np.int64) >> OUTPUT_SHIFT
        return whole[:, 0], whole[:, 1]

    def finish(self, sums: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what `outputs` does, of the hidden sums int64 [n, 16]."""
        hidden = np.clip(sums >> HIDDEN_SHIFT, 0, HIDDEN_LIMIT)
        both = (hidden @ self.output_weight.astype(np.int64) + self.output_bias) >> OUTPUT_SHIFT
        return both[:, 0], both[:, 1]


def pad(latents_nchw: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return int16 [N, 1 + C, H + 2, W + 2]: `INSIDE`, then the channels less 128, in a frame of zeros."""
    n, c, h, w = latents_nchw.shape
    padded = np.zeros((n, c + 1, h + 2, w + 2), dtype=np.int16)
    padded[:, 0, 1:-1, 1:-1] = INSIDE
    np.subtract(latents_nchw, 128, out=padded[:, 1:, 1:-1, 1:-1], dtype=np.int16)
    return padded


def gather(padded: NDArray[np.int16], channel: int, parents: tuple[int, ...]) -> NDArray[np.int16]:
    """Return int16 [N·H·W, inputs] of a channel, from what `pad` returns."""
    height, width = padded.shape[2] - 2, padded.shape[3] - 2
    taps = [(0, *place) for place in EDGES]
    taps += [(1 + parent, *place) for parent in parents for place in CROSS]
    taps += [(1 + channel, *place) for place in CAUSAL]
    columns = [
        padded[:, plane, 1 + down : 1 + down + height, 1 + right : 1 + right + width].reshape(-1)
        for plane, down, right in taps
    ]
    return np.stack(columns, axis=1)


def choose(
    expected: NDArray[np.int64], scale: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the table, and the level that is subtracted from the value, of what `outputs` returns."""
    table = np.clip(scale, 0, classes - 1) * PHASES + (expected & (PHASES - 1))
    return table, expected >> 2


def pack(network: ContextNetwork | None, table: int, classes: int) -> bytes:
    """Return what the C coder reads of a channel; `table` is the one of a channel without a network."""
    program = np.zeros((), dtype=PROGRAM)
    program["table"], program["classes"] = (table, classes) if network is None else (-1, classes)
    if network is not None:
        program["parents"] = len(network.parents)
        program["parent"][: len(network.parents)] = network.parents
        program["hidden_bias"], program["output_bias"] = network.hidden_bias, network.output_bias
        program["output_weight"] = network.output_weight.T
        inputs = len(network.hidden_weight)
        weights = np.zeros((2 * MAX_PAIRS, HIDDEN), dtype=np.int16)
        weights[:inputs] = network.hidden_weight
        program["hidden_weight"] = weights.reshape(MAX_PAIRS, 2, HIDDEN).transpose(0, 2, 1)
    return program.tobytes()
