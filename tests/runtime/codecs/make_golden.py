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


def keep(name: str, data: bytes) -> bytes:
    """Write `data` unless the file exists; return what the file holds."""
    path = GOLDEN / name
    if not path.exists():
        path.write_bytes(data)
    return path.read_bytes()


def main() -> None:
    fitted = FrequencyTables.fit([laplace(50, 4, 5, 7, 1, 2.0), laplace(50, 6, 5, 7, 2, 6.0)])
    tables = FrequencyTables.from_bytes(keep("tables.npz", fitted.to_bytes()))
    latents = {
        "typical": laplace(1, 6, 5, 7, 3, 6.0)[0],
        "prefix": laplace(1, 6, 5, 7, 3, 6.0)[0, :3],
        "escapes": np.random.default_rng(4).integers(0, 256, (6, 5, 7), dtype=np.uint8),
        "many_lanes": laplace(1, 6, 53, 53, 5, 1.0)[0],
    }
    file = io.BytesIO()
    np.savez_compressed(file, **latents)
    with np.load(io.BytesIO(keep("latents.npz", file.getvalue())), allow_pickle=False) as kept:
        for codec in CODECS:
            for case in ("typical", "prefix", "escapes", *(["many_lanes"] if codec == "rans" else [])):
                keep(
                    f"{codec}.{case}.bin",
                    encode_payload(kept[case], codec=codec, width_index=1, tables=tables),
                )


if __name__ == "__main__":
    main()
