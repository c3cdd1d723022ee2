"""Make golden payloads that do not exist yet. An existing file is never written again: it fixes the format.

Run from the repository's root: python tests/runtime/codecs/make_golden.py
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs import CODECS, FrequencyTables, encode_payload

GOLDEN = Path(__file__).parent / "golden"


def laplace(n: int, c: int, h: int, w: int, seed: int, scale: float) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    spread = scale * 0.7 ** np.arange(c)
    values = 128 + rng.laplace(size=(n, c, h, w)) * spread[:, None, None]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def related(n: int, c: int, h: int, w: int, seed: int) -> NDArray[np.uint8]:
    """Return latents whose values are like their neighbours, and as loud as the first; the last is not."""
    rng = np.random.default_rng(seed)
    found = np.empty((n, c, h, w))
    for channel in range(c - 1):
        noise = rng.normal(size=(n, h + 2, w + 2))
        smooth = noise[:, 1:-1, 1:-1] + noise[:, :-2, 1:-1] + noise[:, 1:-1, :-2] + noise[:, :-2, :-2]
        loud = 1.0 if channel == 0 else np.abs(found[:, 0]) / 4
        found[:, channel] = 3 * smooth * loud * 0.8**channel
    found[:, c - 1] = rng.laplace(size=(n, h, w))
    return np.clip(np.rint(128 + found), 0, 255).astype(np.uint8)


def keep(name: str, data: bytes) -> bytes:
    """Write `data` unless the file exists; return what the file holds."""
    path = GOLDEN / name
    if not path.exists():
        path.write_bytes(data)
    return path.read_bytes()


def main() -> None:
    path = GOLDEN / "tables.npz"
    if not path.exists():  # fitting takes a few seconds
        path.write_bytes(
            FrequencyTables.fit([laplace(50, 4, 5, 7, 1, 2.0), related(2000, 6, 5, 7, 2)]).to_bytes()
        )
    tables = FrequencyTables.from_bytes(path.read_bytes())
    latents = {
        "typical": related(1, 6, 5, 7, 3)[0],
        "prefix": related(1, 6, 5, 7, 3)[0, :3],
        "escapes": np.random.default_rng(4).integers(0, 256, (6, 5, 7), dtype=np.uint8),
        "large": related(1, 6, 53, 53, 5)[0],
        "narrow": laplace(1, 4, 5, 7, 6, 2.0)[0],
    }
    file = io.BytesIO()
    np.savez_compressed(file, **latents)
    with np.load(io.BytesIO(keep("latents.npz", file.getvalue())), allow_pickle=False) as kept:
        for codec in CODECS:
            for case in ("typical", "prefix", "escapes", *(["large", "narrow"] if codec == "rans" else [])):
                width_index = 0 if case == "narrow" else 1
                keep(
                    f"{codec}.{case}.bin",
                    encode_payload(kept[case], codec=codec, width_index=width_index, tables=tables),
                )


if __name__ == "__main__":
    main()
