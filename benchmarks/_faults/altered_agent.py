"""`isthmus agent` with something wrong in its surroundings: `altered_agent.py ALTERATION agent run …`.

clock: the wall clock jumps by a day ahead, later by two days back, again and again.
disk=BYTES: no file may grow beyond so many bytes.
heads=SECONDS: every head takes so much longer.
stall=FROM,UNTIL: the source has no new frame from FROM to UNTIL seconds after its first, and half a second
    of that time it does not even return.
"""

from __future__ import annotations

import sys
import time
from typing import Any

_DAY_S = 86_400.0


def _alter_clock(_: str) -> None:
    true, began_s = time.time, time.monotonic()

    def stepped() -> float:
        phase = int(time.monotonic() - began_s) % 3
        return true() + (0.0, _DAY_S, -_DAY_S)[phase]

    time.time = stepped


def _alter_disk(limit: str) -> None:
    import resource

    # Python ignores SIGXFSZ: writes fail with EFBIG, as they do with ENOSPC on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))


def _alter_heads(extra_s: str) -> None:
    import onnxruntime as ort

    run = ort.InferenceSession.run

    def slow(self: Any, names: Any, feed: Any, *rest: Any) -> Any:
        if "image" in feed:
            time.sleep(float(extra_s))
        return run(self, names, feed, *rest)

    ort.InferenceSession.run = slow


def _alter_stall(span: str) -> None:
    from isthmus.device_agents import sources

    from_s, until_s = (float(part) for part in span.split(","))
    open_source = sources.open_source

    def opened(*args: Any, **kwargs: Any) -> Any:
        source = open_source(*args, **kwargs)
        frame, began_s, hung = source.frame, time.monotonic(), False

        def stalling() -> Any:
            nonlocal hung
            since_s = time.monotonic() - began_s
            if from_s <= since_s < until_s:
                if not hung:
                    hung = True
                    time.sleep(0.5)
                raise sources.NoNewFrame
            return frame()

        source.frame = stalling  # type: ignore[method-assign]
        return source

    sources.open_source = opened


def main() -> None:
    """Alter, then be `isthmus`."""
    name, _, value = sys.argv.pop(1).partition("=")
    {"clock": _alter_clock, "disk": _alter_disk, "heads": _alter_heads, "stall": _alter_stall}[name](value)
    from isthmus.cli import main as isthmus

    isthmus()


if __name__ == "__main__":
    main()
