"""Latents and tables for the codec tests: Laplace channels of falling scale, as bottlenecks have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.runtime.codecs import FrequencyTables

Latents = Callable[..., NDArray[np.uint8]]
SHAPE = (6, 5, 7)  # an odd plane: lanes and channels do not line up


@pytest.fixture(scope="session")
def draw_latents() -> Latents:
    """Return draw(n, c, h, w, seed=, scale=, decay=) -> uint8 [n, c, h, w]."""

    def draw(
        n: int, c: int, h: int, w: int, *, seed: int, scale: float = 6.0, decay: float = 0.8
    ) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        spread = scale * decay ** np.arange(c)
        values = 128 + rng.laplace(size=(n, c, h, w)) * spread[:, None, None]
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    return draw


@pytest.fixture(scope="session")
def tables(draw_latents: Latents) -> FrequencyTables:
    """Tables of two widths, the first with fewer channels."""
    return FrequencyTables.fit([draw_latents(40, 4, 5, 7, seed=1, scale=3), draw_latents(40, *SHAPE, seed=2)])


@pytest.fixture(scope="session")
def latent_chw(draw_latents: Latents) -> NDArray[np.uint8]:
    """A latent of the second width, unseen by the tables."""
    latent: NDArray[np.uint8] = draw_latents(1, *SHAPE, seed=3)[0]
    assert len(np.unique(latent)) > 10  # else the tests below could not fail
    return latent
