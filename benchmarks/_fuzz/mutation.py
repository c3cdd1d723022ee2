"""Bytes altered at random, and the same ones again for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

# Where lengths, signs and LEB128 numbers turn over.
_EDGES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
_MOST_STEPS = 4
_LONGEST_PIECE = 24

Step = Callable[[bytearray], None]


class Mutator:
    """Alters bytes by one to four small steps, some of which take pieces from a pool of others."""

    def __init__(self, random: Random, pool: Sequence[bytes]) -> None:
        """Draw from `random`; `pool` holds well-formed inputs."""
        self._random = random
        self._pool = pool
        self._steps: tuple[Step, ...] = (
            *(self._flip, self._flip, self._edge, self._insert, self._remove),
            *(self._repeat, self._overwrite, self._splice, self._truncate),
        )

    def mutate(self, data: bytes) -> bytes:
        """Return `data` altered; now and then it is as before."""
        found = bytearray(data)
        for _ in range(self._random.randint(1, _MOST_STEPS)):
            self._random.choice(self._steps)(found)
        return bytes(found)

    def random_bytes(self, longest: int) -> bytes:
        """Return up to `longest` random bytes."""
        return self._random.randbytes(self._random.randint(0, longest))

    def _span(self, data: bytes | bytearray) -> slice:
        start = self._random.randint(0, len(data))
        return slice(start, start + self._random.randint(1, _LONGEST_PIECE))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _edge(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] = self._random.choice(_EDGES)

    def _insert(self, data: bytearray) -> None:
        start = self._random.randint(0, len(data))
        data[start:start] = self._random.randbytes(self._random.randint(1, _LONGEST_PIECE))

    def _remove(self, data: bytearray) -> None:
        del data[self._span(data)]

    def _repeat(self, data: bytearray) -> None:
        span = self._span(data)
        data[span.start : span.start] = data[span]

    def _overwrite(self, data: bytearray) -> None:
        other = self._random.choice(self._pool)
        piece = other[self._span(other)]
        start = self._random.randint(0, len(data))
        data[start : start + len(piece)] = piece

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._pool)
        data[self._random.randint(0, len(data)) :] = other[self._random.randint(0, len(other)) :]

    def _truncate(self, data: bytearray) -> None:
        del data[self._random.randint(0, len(data)) :]
