"""What a bundle's widest head costs by itself: run it FPS times a second until terminated.

python benchmarks/_heads.py BUNDLE FPS
"""

from __future__ import annotations

import sys
import time

import numpy as np

from isthmus.device_agents.bank import WidthBank
from isthmus.runtime.bundle import load_bundle


def main() -> None:
    bundle = load_bundle(sys.argv[1])
    period_s = 1.0 / float(sys.argv[2])
    bank = WidthBank(bundle, threads=1, provider="cpu")
    spec = bundle.manifest.input
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (spec.height, spec.width, spec.channels), dtype=np.uint8)
    widest = len(bundle.manifest.widths) - 1
    due_s = time.monotonic()
    while True:
        time.sleep(max(0.0, due_s - time.monotonic()))
        bank.head(widest, image)
        due_s += period_s


if __name__ == "__main__":
    main()
