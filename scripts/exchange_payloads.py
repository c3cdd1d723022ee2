"""Payloads for two machines to compare: `tables TABLES`, then `write TABLES FILE` and `read TABLES FILE`.

The latents depend on nothing but their seed; the tables, like those of a bundle, are made once and shared.
Two machines agree when they write the same file and each reads it.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs import FrequencyTables, decode_payload, encode_payload

_SHAPES = ((1, 1, 1), (3, 5, 7), (4, 8, 8), (12, 14, 14), (16, 7, 9))
_EACH = 12
_FITTED = (12, 1000, 600, 200, 12)  # the first and last are too few for contexts
_CODECS = ("rans", "raw")


def latents(each: tuple[int, ...], seed: int) -> list[NDArray[np.uint8]]:
    """Return latents uint8 [n, channels, height, width], one array per shape; integers alone make them."""
    random = np.random.RandomState(seed)
    found = []
    for shape, count in zip(_SHAPES, each, strict=True):
        # A sum of four dice is as peaked as a latent, and rare large steps need the escape symbol. Each value
        # takes after its left neighbour and the channel before.
        dice = random.randint(0, 24, (4, count, *shape)).sum(axis=0) - 46
        dice[..., 1:] += dice[..., :-1] // 2
        dice[:, 1:] += abs(dice[:, :-1]) // 2
        rare = random.randint(0, 200, dice.shape) == 0
        found.append(np.where(rare, random.randint(0, 256, dice.shape), 128 + dice).astype(np.uint8))
    return found


def main() -> None:
    """Do what the arguments say; end with a message if a payload differs."""
    action, table_file = sys.argv[1], Path(sys.argv[2])
    if action == "tables":
        table_file.write_bytes(FrequencyTables.fit(latents(_FITTED, 76)).to_bytes())
        return
    tables = FrequencyTables.from_bytes(table_file.read_bytes())
    cases = [
        (codec, width_index, latent)
        for width_index, group in enumerate(latents((_EACH,) * len(_SHAPES), 77))
        for latent in group
        for codec in _CODECS
    ]
    file = Path(sys.argv[3])
    if action == "write":
        payloads = [encode_payload(latent, codec=c, width_index=w, tables=tables) for c, w, latent in cases]
        file.write_bytes(b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads))
        return
    stream = io.BytesIO(file.read_bytes())
    for number, (codec, _, latent) in enumerate(cases):
        payload = stream.read(int.from_bytes(stream.read(4), "little"))
        decoded = decode_payload(payload, tables=tables, max_latent_bytes=latent.size, expect=latent.shape)
        if not np.array_equal(decoded.latent_chw, latent):
            sys.exit(f"{file}: payload {number} ({codec}, {latent.shape}) decodes to other symbols")
    print(f"{len(cases)} payloads")


if __name__ == "__main__":
    main()
