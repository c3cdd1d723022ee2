"""Bundles that a test may alter, and seal again so that only the alteration is wrong."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.runtime.bundle import GOLDEN, MANIFEST, Manifest, write_manifest


@pytest.fixture
def own_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny bundle that this test may alter."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "own"))


@pytest.fixture
def seal() -> Callable[..., None]:
    """Return `seal(root, **changes)`, which changes fields of the manifest and renews its digests."""

    def write(root: Path, **changes: Any) -> None:
        manifest = msgspec.json.decode((root / MANIFEST).read_bytes(), type=Manifest)
        write_manifest(root, msgspec.structs.replace(manifest, **changes))

    return write


@pytest.fixture
def alter_golden(own_bundle: Path, seal: Callable[..., None]) -> Callable[..., None]:
    """Return `alter(**arrays)`, which replaces golden arrays of `own_bundle` (None: removes) and seals it."""

    def alter(**arrays: NDArray[Any] | None) -> None:
        with np.load(io.BytesIO((own_bundle / GOLDEN).read_bytes())) as archive:
            golden = {name: archive[name] for name in archive.files}
        for name, value in arrays.items():
            assert name in golden, f"{name} is no golden array"
            if value is None:
                del golden[name]
            else:
                golden[name] = value
        np.savez(own_bundle / GOLDEN, **golden)
        seal(own_bundle)

    return alter


@pytest.fixture
def golden_arrays(tiny_bundle: Path) -> dict[str, NDArray[Any]]:
    """Return the golden arrays of the tiny bundle."""
    with np.load(io.BytesIO((tiny_bundle / GOLDEN).read_bytes())) as archive:
        return {name: archive[name] for name in archive.files}
