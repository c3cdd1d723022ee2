"""How much of what a device can multiply at most a tail makes use of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from _peers.children import on_cores
from _peers.contest import Computing
from _peers.tails import Tail
from isthmus.runtime.bundle import TAIL_ATEN
from isthmus.runtime.bundle.aten_graph import build

_TYPE_OF = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_SIDE = {"cpu": 1024, "cuda": 8192}
_SECONDS = 1.0


def peak_share(tail: Tail, how: Computing, offline: Mapping[str, Any]) -> dict[str, float]:
    """Return the tail's arithmetic at its best offline rate as a share of the device's measured peak.

    The peak is the fastest of many products of large matrices in the same precision, with the same threads.
    """
    import torch

    torch.set_num_threads(how.threads)
    flops = _flops(tail)
    with on_cores(how.cores):
        peak = _peak_flops_per_s(how.provider, _TYPE_OF[how.precision])
    return {
        "flops_per_frame": flops,
        "peak_flops_per_s": peak,
        "offline_over_peak": offline["best_frames_per_s"] * flops / peak,
    }


def _flops(tail: Tail) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    where = str(tail.bundle.root / TAIL_ATEN)
    module = build(tail.bundle.read(TAIL_ATEN), where=where, device="cpu", precision="float32")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(torch.from_numpy(tail.latents_nchw[:1]))
    return float(counter.get_total_flops())


def _peak_flops_per_s(device: str, precision: str) -> float:
    import torch

    side = _SIDE[device]
    left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    taken_s: list[float] = []
    end_s = time.perf_counter() + _SECONDS
    while time.perf_counter() < end_s or len(taken_s) < 3:
        began_s = time.perf_counter()
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        taken_s.append(time.perf_counter() - began_s)
    return 2 * side**3 / min(taken_s)
