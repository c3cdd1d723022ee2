"""How fast a backend computes batches when nobody serves them: the measure of what serving loses.

`offline_tail.py onnx TAIL.onnx THREADS` runs by any Python with numpy and onnxruntime, thus also by another
server's own. `offline_tail.py bundle DIR THREADS BACKEND PROVIDER MAX_BATCH` runs our backend. Both take a
line `SECONDS SIZE SIZE …` from standard input and answer a line of JSON: size → seconds a batch (median) and
processor seconds a batch (mean).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[Any], Any]


def _onnx(path: str, threads: int) -> tuple[Run, tuple[int, ...]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda latents: session.run(None, {given.name: latents}), tuple(given.shape[1:])


def _bundle(
    root: str, threads: int, backend: str, provider: str, max_batch: int
) -> tuple[Run, tuple[int, ...]]:
    from pathlib import Path

    from isthmus.runtime.bundle import load_bundle
    from isthmus.runtime.server import ServerConfig
    from isthmus.runtime.server.backends import open_backend

    bundle = load_bundle(root)
    config: Any = {"backend": backend, "provider": provider, "max_batch": max_batch, "threads": threads}
    opened = open_backend(
        bundle, ServerConfig(bundles=(Path(root),), queue_frames=max(256, max_batch), **config)
    )
    latent = bundle.manifest.latent
    return opened.run, (latent.channels, latent.height, latent.width)


def main() -> None:
    """Answer lines until there are no more."""
    kind, path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "onnx":
        run, shape = _onnx(path, threads)
    else:
        run, shape = _bundle(path, threads, sys.argv[4], sys.argv[5], int(sys.argv[6]))
    rng = np.random.default_rng(0)
    print("{}", flush=True)
    for line in sys.stdin:
        seconds, *sizes = line.split()
        found = {}
        for size in sizes:
            latents = rng.integers(0, 256, (int(size), *shape), dtype=np.uint8)
            run(latents)
            taken: list[float] = []
            cpu_s = time.process_time()
            end = time.perf_counter() + float(seconds)
            while time.perf_counter() < end or len(taken) < 3:
                began = time.perf_counter()
                run(latents)
                taken.append(time.perf_counter() - began)
            found[size] = (float(np.median(taken)), (time.process_time() - cpu_s) / len(taken))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
