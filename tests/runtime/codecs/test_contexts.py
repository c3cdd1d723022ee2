"""Context networks: the arithmetic by hand, and both implementations at the ends of what integers hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.runtime.codecs import FrequencyTables, RansCodec
from isthmus.runtime.codecs._npz import write_arrays
from isthmus.runtime.codecs.contexts import (
    BIAS_LIMIT,
    HIDDEN,
    ContextNetwork,
    choose,
    gather,
    input_count,
    pad,
)
from isthmus.runtime.codecs.tables import _DTYPES, _META, NO_NETWORK

PORTABLE = RansCodec(backend="numpy")


def network(parents: tuple[int, ...] = (), **changes: NDArray[np.generic]) -> ContextNetwork:
    """Return a network of zeros with some arrays replaced."""
    arrays = {
        "hidden_weight": np.zeros((input_count(len(parents)), HIDDEN), np.int16),
        "hidden_bias": np.zeros(HIDDEN, np.int32),
        "output_weight": np.zeros((HIDDEN, 2), np.int16),
        "output_bias": np.zeros(2, np.int32),
    }
    return ContextNetwork(parents=parents, **arrays | changes)


def test_inputs_are_in_the_documented_order() -> None:
    latent = np.arange(140, 152, dtype=np.uint8).reshape(
        1, 2, 2, 3
    )  # 140 141 142 / 143 144 145, then from 146
    inputs = gather(pad(latent), 1, (0,)).reshape(2, 3, -1)
    assert inputs[1, 1].tolist() == [0, 16, 16, 16, 16, 13, 0, 15, 17, 18, 19, 20, 21]
    assert inputs[0, 0].tolist() == [16, 0, 16, 0, 12, 0, 15, 0, 13, 0, 0, 0, 0]
    assert inputs[1, 2].tolist() == [0, 16, 0, 16, 17, 14, 0, 16, 0, 19, 20, 0, 22]


def test_outputs_by_hand() -> None:
    weight = np.zeros((8, HIDDEN), np.int16)
    weight[-1, 0], weight[-1, 1] = 1024, -1024  # the left neighbour, and what it falls short by
    output = np.zeros((HIDDEN, 2), np.int16)
    output[0], output[1] = (4096, 1024), (-4096, 1024)  # quarters of a level; classes by how far it is
    own = network(hidden_weight=weight, output_weight=output, output_bias=np.array([1 << 15, 0], np.int32))
    inputs = np.zeros((3, 8), np.int16)
    inputs[:, -1] = (5, -3, 120)
    expected, scale = own.outputs(inputs)
    # 5 * 1024 >> 4 = 320; 320 * 4096 + 2^15 >> 16 = 20 quarters. 120 meets the limit of 2047.
    assert expected.tolist() == [20, -12, 128]
    assert scale.tolist() == [5, 3, 31]
    table, level = choose(expected + np.array([0, 1, 2]), scale, 4)
    assert table.tolist() == [3 * 4 + 0, 3 * 4 + 1, 3 * 4 + 2]
    assert level.tolist() == [5, -3, 32]


def test_a_bias_that_could_overflow_is_refused() -> None:
    network(hidden_bias=np.full(HIDDEN, -BIAS_LIMIT, np.int32))
    for value in (BIAS_LIMIT + 1, -BIAS_LIMIT - 1, -(2**31)):
        with pytest.raises(ValueError, match=f"^a bias of a context network passes {BIAS_LIMIT}$"):
            network(output_bias=np.array([0, value], np.int32))


def drawn_tables(rng: np.random.Generator, channels: int, extreme: bool) -> FrequencyTables:
    """Return tables whose networks are noise: as large as the format allows, or such that contexts vary."""
    parents = np.array([rng.choice([NO_NETWORK, min(k, rng.integers(0, 9))]) for k in range(channels)])
    parents[0] = 0
    present = parents[parents != NO_NETWORK]
    chosen = [
        np.sort(rng.choice(k, count, replace=False)) if k else np.empty(0)
        for k, count in enumerate(parents.tolist())
        if count != NO_NETWORK
    ]
    classes = int(rng.integers(1, 30))
    inputs = sum(input_count(count) for count in present.tolist())
    most = 32768 if extreme else 1500
    tables = 4 * classes + int((parents == NO_NETWORK).sum())
    size = rng.integers(1, 100, tables)
    frequency = [_split(rng, int(count) + 1) for count in size]

    def noise(count: int, limit: int) -> NDArray[np.int64]:
        if extreme:
            return rng.choice([-limit, limit - 1, 0], count)
        return rng.integers(-limit, limit, count)

    arrays = {
        "meta": _META,
        "channels": [channels],
        "classes": [classes],
        "parents": parents,
        "parent": np.concatenate([np.empty(0), *chosen]),
        "hidden_weight": noise(inputs * HIDDEN, most),
        "hidden_bias": noise(len(present) * HIDDEN, BIAS_LIMIT if extreme else 20_000),
        "output_weight": noise(len(present) * HIDDEN * 2, most),
        "output_bias": noise(len(present) * 2, BIAS_LIMIT if extreme else 1 << 19),
        "first": rng.integers(0, 256 - size),
        "size": size,
        "frequency": np.concatenate(frequency),
    }
    return FrequencyTables.from_bytes(
        write_arrays({name: np.array(arrays[name]).astype(dtype) for name, dtype in _DTYPES.items()})
    )


def _split(rng: np.random.Generator, parts: int) -> NDArray[np.int64]:
    cuts = np.sort(rng.choice(np.arange(1, 4096), parts - 1, replace=False))
    return np.diff(np.concatenate([[0], cuts, [4096]]))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6)),
    extreme=st.booleans(),
)
def test_both_implementations_agree_on_any_network(
    seed: int, shape: tuple[int, int, int], extreme: bool
) -> None:
    pytest.importorskip(
        "isthmus.runtime.codecs._rans", reason="the C coder is not built", exc_type=ImportError
    )
    fast = RansCodec(backend="c")
    rng = np.random.default_rng(seed)
    tables = drawn_tables(rng, shape[0], extreme)
    latent = rng.choice([0, 255, 128, rng.integers(0, 256)], shape).astype(np.uint8)
    if not extreme:
        latent = np.clip(rng.normal(128, 20, shape), 0, 255).astype(np.uint8)
    body = fast.encode(latent, tables, 0)
    assert body == PORTABLE.encode(latent, tables, 0)
    for codec in (fast, PORTABLE):
        np.testing.assert_array_equal(codec.decode(body, shape, tables, 0), latent)


def test_drawn_networks_use_many_contexts() -> None:
    """The test above could not fail if every pixel had one context."""
    rng = np.random.default_rng(5)
    tables = drawn_tables(rng, 12, extreme=False)
    latent = np.clip(rng.normal(128, 20, (12, 6, 6)), 0, 255).astype(np.uint8)
    table, level = tables.width(0).contexts(latent)
    assert len(np.unique(table)) > 12
    assert len(np.unique(level)) > 10
