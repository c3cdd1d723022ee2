"""A process that reads fuzzed payloads and says on its last line what came of them, as JSON.

Its argument is a JSON object: `payloads`, `seconds`, `seed`, `coder` (a coder to load in place of the built
one; null: the built one) and `last` (a file that holds the input which is being read, should it be the last).
"""

from __future__ import annotations

import gc
import importlib.util
import json
import mmap
import os
import sys
import time
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any

_CODER = "isthmus.runtime.codecs._rans"
# Of every so many inputs one is decoded by the numpy coder as well, which takes a hundred times as long.
_BOTH_EVERY = 2
# Inputs before memory is measured first: tables are unpacked and the allocator has its pools by then.
_WARM_UP = 5_000


def read_payloads(
    *, payloads: int, seconds: float, seed: int, last: mmap.mmap | None = None
) -> dict[str, Any]:
    """Return figures of at most `payloads` inputs read within `seconds`."""
    from _fuzz.payload_check import PayloadVerdicts
    from _fuzz.payload_inputs import PayloadInputs

    inputs, verdicts = PayloadInputs(seed), PayloadVerdicts()
    started_s = time.monotonic()
    before, done = resident_bytes(), 0
    while done < payloads and (done % 256 or time.monotonic() - started_s < seconds):
        one = inputs.next()
        if last is not None:
            last[: 4 + len(one.data)] = len(one.data).to_bytes(4, "little") + one.data
        verdicts.judge(one, inputs.shape, both=done % _BOTH_EVERY == 0)
        done += 1
        if done == _WARM_UP:
            before = resident_bytes()
    gc.collect()
    return {
        "payloads": done,
        "seed": seed,
        "seconds": round(time.monotonic() - started_s, 1),
        **verdicts.record(),
        "resident_bytes_before": before,
        "resident_bytes_after": resident_bytes(),
    }


def resident_bytes(pid: int | str = "self") -> int:
    """Return the memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _load_coder(file: str) -> None:
    loader = ExtensionFileLoader(_CODER, file)
    spec = importlib.util.spec_from_loader(_CODER, loader)
    assert spec is not None, "a file has a loader"
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[_CODER] = module


def main() -> None:
    """Do what the argument says."""
    asked = json.loads(sys.argv[1])
    if asked["coder"] is not None:
        _load_coder(asked["coder"])
    from isthmus.runtime.codecs import coder_backend
    from isthmus.runtime.codecs.rans import HAS_C

    with Path(asked["last"]).open("w+b") as file:
        file.truncate(1 << 20)
        with mmap.mmap(file.fileno(), 0) as last:
            found = read_payloads(
                payloads=asked["payloads"], seconds=asked["seconds"], seed=asked["seed"], last=last
            )
    loaded = getattr(sys.modules.get(_CODER), "__file__", None)
    assert asked["coder"] is None or (HAS_C and loaded == asked["coder"]), f"the coder is {loaded}"
    print(json.dumps({**found, "coder": coder_backend()}))


if __name__ == "__main__":
    main()
