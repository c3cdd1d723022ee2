"""Keep the memory of one step or batch for the next: freeing and mapping it again costs more than using it.

Tensors of a step are large, so that the C library gives each its own pages and returns them to the system;
the next step pays for new, zeroed ones. On photographs that was a tenth of a training step, and a third of
an export.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

# Numbers and defaults from <malloc.h> of glibc.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 256 << 20}
_USUAL = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 << 10, _TOP_PAD: 0}


@contextlib.contextmanager
def kept_memory() -> Iterator[bool]:
    """Have the C library keep what is freed until the end; yields False where it cannot be told."""
    library = _library()
    if library is None:
        yield False
        return
    told = [library.mallopt(name, value) for name, value in _KEEP.items()]
    try:
        yield all(told)
    finally:
        for name, value in _USUAL.items():
            library.mallopt(name, value)
        library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
