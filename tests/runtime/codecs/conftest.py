"""Latents and tables for the codec tests: Laplace channels of falling scale, as bottlenecks have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.runtime.codecs import FrequencyTables

Latents = Callable[..., NDArray[np.uint8]]
SHAPE = (6, 5, 7)  # an odd plane: rows, channels and vectors do not line up
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def draw_latents() -> Latents:
    """Return draw(n, c, h, w, seed=, scale=, decay=) -> uint8 [n, c, h, w], every value on its own."""

    def draw(
        n: int, c: int, h: int, w: int, *, seed: int, scale: float = 6.0, decay: float = 0.8
    ) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        spread = scale * decay ** np.arange(c)
        values = 128 + rng.laplace(size=(n, c, h, w)) * spread[:, None, None]
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def draw_related() -> Latents:
    """Return draw(n, c, h, w, seed=) -> uint8 [n, c, h, w], values that tell something of each other."""

    def draw(n: int, c: int, h: int, w: int, *, seed: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        found = np.empty((n, c, h, w))
        for channel in range(c):
            noise = rng.normal(size=(n, h + 2, w + 2))
            smooth = noise[:, 1:-1, 1:-1] + noise[:, :-2, 1:-1] + noise[:, 1:-1, :-2] + noise[:, :-2, :-2]
            # The first channel tells how far the others may go.
            loud = 1.0 if channel == 0 else np.abs(found[:, 0]) / 4
            found[:, channel] = 3 * smooth * loud * 0.8**channel
        return np.clip(np.rint(128 + found), 0, 255).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def tables(draw_latents: Latents) -> FrequencyTables:
    """Tables of two widths without networks, the first with fewer channels."""
    return FrequencyTables.fit([draw_latents(40, 4, 5, 7, seed=1, scale=3), draw_latents(40, *SHAPE, seed=2)])


@pytest.fixture(scope="session")
def context_tables() -> FrequencyTables:
    """The golden tables: a first width of 4 channels without networks, a second of 6, most with one."""
    found = FrequencyTables.from_bytes((GOLDEN / "tables.npz").read_bytes())
    assert sum(network is not None for network in found.width(1).networks) >= 5
    return found


@pytest.fixture(scope="session", params=["tables", "context_tables"])
def any_tables(request: pytest.FixtureRequest) -> FrequencyTables:
    """Tables without and with networks, one after the other."""
    found: FrequencyTables = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def latent_chw(draw_latents: Latents) -> NDArray[np.uint8]:
    """A latent of the second width, unseen by the tables."""
    latent: NDArray[np.uint8] = draw_latents(1, *SHAPE, seed=3)[0]
    assert len(np.unique(latent)) > 10  # else the tests below could not fail
    return latent
