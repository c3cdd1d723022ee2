"""What batching makes of many streams: throughput, and latency under load, on real tails.

Options:
    tails: Names out of cifar (ResNet-56) and mobilenet (MobileNetV2), with commas.
    cifar, mobilenet: Their bundles. Without: runs/cifar10-bundle, and one that is exported at the first run.
    rounds: How often every contender has its turn at every load.
    seconds: How long a turn lasts, for the cifar tail; for the larger one it is half as long again.
    backend, device, precision: What computes our tails: onnxruntime or torch; cpu or cuda; fp32, bf16, fp16.
    max_batch: Most latents of a batch, of every server.
    pin: "apart": all servers on the last core, one thread a tail, and this process, which is all the
        clients, on the others; "none": anywhere. Default: apart, where there are two cores and no GPU.

Per tail, in each round: the backend alone (`offline`), then every contender with 1, 8, 32, 128 streams, each
of which sends a frame when the one before is answered. `ours` takes encoded payloads and decodes them;
`ours_latent` takes plain latents, as do Triton (Python backend, dynamic batching), MLServer (adaptive
batching) and LitServe, which host the same ONNX file in the environments of `scripts/peers --setup`. Then
`mixed`: lines of three operating points together, against each point alone. Last, frames at random instants
(Poisson), at 70 % of what the contender carried at most.

`share_of_offline` compares with the best batch size of what computes in that very server (peers have another
version of ONNX Runtime); `share_of_offline_per_cpu` does the same per second of processor time, which says
what serving costs even while neighbours take part of the core. `p99_over_single` divides by the time of a
lone frame there and back; `ideal_p99_over_single` is what the same arrivals would meet in a server that does
nothing but compute, at no cost for batching: random arrivals alone cost that.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
from _peers.batching_figures import LOAD, closed, opened, rate, ratios_of, server_of
from _peers.children import Child, on_cores, usable_cores
from _peers.contest import PEERS, Computing, Contest
from _peers.load import Taken, closed_loop, ideal_latency_s, open_loop, poisson
from _peers.places import missing
from _peers.tails import CIFAR, Tail, load_tail, make_mobilenet
from numpy.typing import NDArray

from isthmus.device_agents.clock import run_exactly
from isthmus.runtime.errors import InputError
from isthmus.runtime.server.backend import warm_up_sizes

STREAMS = (1, 8, 32, 128)
_QUICK_STREAMS = (1, 8)
_MIXED_STREAMS = 32
_OPEN_STREAMS = 16

Turns = dict[tuple[str, int], list[Taken]]


def run(
    *,
    quick: bool = False,
    tails: str = "cifar,mobilenet",
    cifar: str = str(CIFAR),
    mobilenet: str | None = None,
    rounds: int = 2,
    seconds: float = 1.5,
    backend: str = "onnxruntime",
    device: str = "cpu",
    precision: str = "fp32",
    max_batch: int = 32,
    pin: str | None = None,
) -> dict[str, Any]:
    """Return throughputs and latencies of every server, and how they compare.

    Raises:
        InputError: If an option is unknown, or a bundle is missing.
        BackendError: If a server does not start.
        GateError: If an answer is wrong.
    """
    if quick:
        rounds, seconds = 1, 0.3
    here, there, threads = _cores(pin, device)
    how = Computing(
        backend=backend,
        provider=device,
        precision=precision,
        max_batch=max_batch,
        threads=threads,
        cores=there,
    )
    figures, ratios = {}, {}
    for name in tails.split(","):
        tail = _tail(name, cifar, mobilenet)
        turn_s = seconds if name == "cifar" else 1.5 * seconds
        streams = _QUICK_STREAMS if quick else STREAMS
        with on_cores(here), contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            contest = Contest(tail, how, folder, stack)
            figures[name], ratios[name] = run_exactly(_measure(contest, how, streams, rounds, turn_s))
        if backend == "torch":
            from _peers.peak import peak_share

            ratios[name]["share_of_peak"] = peak_share(tail, how, figures[name]["offline"]["ours"])
    return {
        "figures": {
            "rounds": rounds,
            "seconds": seconds,
            "backend": f"{backend} {device} {precision}",
            "max_batch": max_batch,
            "threads_of_a_tail": threads,
            "cores_of_servers": "any" if there is None else len(there),
            "missing": ", ".join(missing(PEERS)) or "none",
            "tails": figures,
        },
        "ratios": ratios,
    }


def _cores(pin: str | None, device: str) -> tuple[frozenset[int] | None, frozenset[int] | None, int]:
    cores = usable_cores()
    if pin is None:
        pin = "apart" if len(cores) > 1 and device == "cpu" else "none"
    if pin not in ("apart", "none"):
        raise InputError(f"pin={pin}: give apart or none")
    if pin == "none":
        return None, None, max(1, len(cores) // 2)
    if len(cores) < 2:
        raise InputError("pin=apart needs two cores; give pin=none")
    return frozenset(cores[:-1]), frozenset(cores[-1:]), 1


def _tail(name: str, cifar: str, mobilenet: str | None) -> Tail:
    if name == "cifar":
        return load_tail(name, Path(cifar))
    if name == "mobilenet":
        return load_tail(name, Path(mobilenet) if mobilenet else make_mobilenet())
    raise InputError(f"tails={name}: give cifar, mobilenet, or both with a comma")


async def _measure(
    contest: Contest, how: Computing, streams: tuple[int, ...], rounds: int, seconds: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    await contest.check()
    sizes = warm_up_sizes(how.max_batch)
    offline: dict[str, list[dict[int, tuple[float, float]]]] = defaultdict(list)
    turns: Turns = defaultdict(list)
    mixed: dict[str, list[Taken]] = defaultdict(list)
    for _ in range(rounds):
        for name in filter(lambda road: road != "ours_latent", contest.roads):
            with contest.turn(name):
                offline[name].append(contest.offline(name).measure(sizes, seconds=seconds / 8))
        for count in streams:
            for road in contest.roads:
                turns[road, count] += await _closed_turn(contest, road, count, seconds)
        for label, points in _mixes(contest.tail).items():
            count = min(_MIXED_STREAMS, streams[-1])
            mixed[label] += await _closed_turn(contest, "ours", count, seconds, points)
    batch_s = {name: _medians(found, 0) for name, found in offline.items()}
    cpu_s = {name: _medians(found, 1) for name, found in offline.items()}
    figures: dict[str, Any] = {
        "bundle": contest.tail.bundle.manifest.name,
        "payload_bytes": [int(np.mean(list(map(len, payloads)))) for payloads in contest.tail.payloads],
        "offline": {
            name: {
                "best_frames_per_s": max(size / taken for size, taken in found.items()),
                "best_frames_per_cpu_s": max(size / taken for size, taken in cpu_s[name].items()),
                "batch": {f"{size}_s": taken for size, taken in found.items()},
            }
            for name, found in batch_s.items()
        },
        "closed": {
            # A peer that was given up has no turns at the loads it did not bear.
            road: {f"{count}_streams": closed(turns[road, count]) for count in streams if turns[road, count]}
            for road in dict.fromkeys(road for road, _ in turns)
        },
        "mixed": {label: closed(taken) for label, taken in mixed.items()},
        "open": {},
    }
    for number in range(rounds):
        for road in contest.roads:
            best = max(1.0, *(rate(turns[road, count]) for count in streams))
            arrivals_s = poisson(LOAD * best, 2 * seconds, seed=number)
            taken = await _open_turn(contest, road, arrivals_s)
            if taken is None:
                continue
            ideal_s = ideal_latency_s(
                arrivals_s, _interpolated(batch_s[server_of(road)]), max_batch=how.max_batch
            )
            figures["open"].setdefault(road, []).append((best, taken, ideal_s))
    figures["crashes"] = contest.crashes
    figures["open"] = {road: opened(found) for road, found in figures["open"].items()}
    return figures, ratios_of(figures, streams)


async def _closed_turn(
    contest: Contest, road: str, streams: int, seconds: float, points: tuple[int, ...] | None = None
) -> list[Taken]:
    """Return the turn, or nothing if the server was given up."""

    def load(server: Child) -> Coroutine[Any, Any, Taken]:
        return closed_loop(contest.opener(road, points), server, streams=streams, seconds=seconds)

    taken = await contest.loaded(road, load)
    return [] if taken is None else [taken]


async def _open_turn(contest: Contest, road: str, arrivals_s: NDArray[np.float64]) -> Taken | None:
    def load(server: Child) -> Coroutine[Any, Any, Taken]:
        return open_loop(contest.opener(road), server, arrivals_s, streams=_OPEN_STREAMS)

    return await contest.loaded(road, load)


def _mixes(tail: Tail) -> dict[str, tuple[int, ...]]:
    points = tuple(range(len(tail.payloads)))
    return {**{f"point_{point}": (point,) for point in points}, "all_points": points}


def _medians(rounds: list[dict[int, tuple[float, float]]], which: int) -> dict[int, float]:
    return {size: float(np.median([found[size][which] for found in rounds])) for size in rounds[0]}


def _interpolated(batch_s: dict[int, float]) -> Any:
    sizes, seconds = list(batch_s), list(batch_s.values())
    return lambda rows: float(np.interp(rows, sizes, seconds))
