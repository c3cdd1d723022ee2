"""Run `isthmus` with a monotonic clock of its own: `_shifted_clock.py AHEAD_S FASTER VERB …`.

What Python measures is AHEAD_S seconds ahead of this host and gains FASTER seconds a second. gRPC's own
timers and the kernel's are not moved, no more than a time namespace moves what is outside of it.
"""

from __future__ import annotations

import sys
import time


def shift(ahead_s: float, faster: float) -> None:
    """Move this process's monotonic clock; call it before anything reads the time."""
    read_ns = time.monotonic_ns
    began_ns, ahead_ns = read_ns(), int(ahead_s * 1e9)

    def monotonic_ns() -> int:
        now_ns = read_ns()
        return now_ns + ahead_ns + int((now_ns - began_ns) * faster)

    def monotonic() -> float:
        return monotonic_ns() / 1e9

    time.monotonic_ns, time.monotonic = monotonic_ns, monotonic


if __name__ == "__main__":
    shift(float(sys.argv[1]), float(sys.argv[2]))
    from isthmus.cli import main

    main(sys.argv[3:])
