"""Data sets that several verbs are tried on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def images(tmp_path: Path) -> str:
    """Spec of 60 images of 16×16 pixels in two classes: dark and bright."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    pixels = random.integers(0, 100, (60, 16, 16)) + 100 * labels[:, None, None]
    np.savez(
        tmp_path / "images.npz",
        images=pixels.astype(np.uint8),
        labels=labels,
        classes=np.array(["dark", "bright"]),
    )
    return f"npz:{tmp_path / 'images.npz'}"
