"""Where each way to run a network wins: on the device, on the server, split raw, or split with a bottleneck.

Options:
    networks: Names, separated by commas.
    rates: How many link rates from 0.1 to 100 Mbit/s, on a logarithmic scale.
    speeds: How many device speeds from 0.02 to 1 of the server's, likewise.
    rtt_ms: Of the link.
    quality: Of the JPEG.
    budget_s: Seconds to measure each network for.
    plots: Folder for one picture per network; none without.
    folder: Where exported networks are kept.

Measured here: the network's node times (one thread, this machine is the server) and, on real photographs
where those are, what JPEG takes. Scaled: the device, which is this machine divided by its speed, JPEG's
encoder with it. Assumed: every bottleneck, whose encoder takes a third of the head that it replaces, whose
decoder half of it on the server, and whose payload is a sixteenth of its tensor in bytes but at most a sixth
of the raw image. Sensitivity says what other assumptions would change. The transformer's bottlenecks stand at
its token maps, where 'isthmus train' does not put any: they show what one would gain.

The raw split is the best of all device sets that leave work to both, by minimum cut, features sent as they
are. A gain is the latency of the next best kind, or of the better endpoint, over the winner's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _networks import CACHE, network_file
from _regimes_plot import draw
from _regimes_subject import Subject, measure
from numpy.typing import NDArray

from isthmus.partitioner import BottleneckAssumption, DeviceProfile
from isthmus.partitioner.energy import EnergyModel
from isthmus.partitioner.question import search_graph
from isthmus.partitioner.search import LATENCY, Link, SearchGraph, SearchProblem, search

NETWORKS = ("resnet50", "vit-b16")
KINDS = ("local", "offload", "split", "bottleneck")
LETTERS = {"local": "L", "offload": "O", "split": "S", "bottleneck": "B"}
RATES_MBIT, SPEEDS = (0.1, 100.0), (0.02, 1.0)
Grid = NDArray[np.float64]


def run(
    *,
    quick: bool = False,
    networks: str | None = None,
    rates: int | None = None,
    speeds: int | None = None,
    rtt_ms: float = 20.0,
    quality: int = 90,
    budget_s: float | None = None,
    plots: str | None = None,
    folder: str | None = None,
) -> dict[str, Any]:
    """Return shares of the grid and gains by network; `quick` takes a small network and a coarse grid."""
    names = networks.split(",") if networks else ("cifar-resnet20",) if quick else NETWORKS
    rates_mbit = np.geomspace(*RATES_MBIT, rates or (4 if quick else 31))
    speed = np.geomspace(*SPEEDS, speeds or (3 if quick else 18))
    figures: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for name in names:
        file = network_file(name, Path(folder) if folder else CACHE, seed=4)
        subject = measure(file, quality, budget_s or (1.0 if quick else 20.0))
        base = BottleneckAssumption()
        plain = _plain(subject, rates_mbit, speed, rtt_ms / 1e3)
        grids = _grids(subject, plain, base, rates_mbit, speed, rtt_ms / 1e3)
        figures[name] = (
            _facts(subject)
            | _winners(grids)
            | {
                "grid": _printed(grids, rates_mbit, speed),
            }
        )
        ratios[name] = {
            "gains": _gains(grids),
            "sensitivity": _sensitivity(subject, plain, rates_mbit, speed, rtt_ms / 1e3),
        }
        if plots is not None:
            draw(name, grids, rates_mbit, speed, Path(plots) / f"regimes-{name}.png")
    return {"figures": figures, "ratios": ratios}


def _plain(subject: Subject, rates_mbit: Grid, speed: Grid, rtt_s: float) -> dict[str, Grid]:
    """Return latencies of the ways without a bottleneck in seconds, by speed and rate."""
    shape = (len(speed), len(rates_mbit))
    per_byte = 8e-6 / rates_mbit[None, :]
    slower = 1 / speed[:, None]
    offload = {
        way.encoding: way.encode_s * slower + way.nbytes * per_byte + rtt_s + way.decode_s + subject.whole_s
        for way in subject.raw
    }
    split = np.empty(shape)
    for row, value in enumerate(speed):
        graph = _interior(subject, float(value))
        for column, rate in enumerate(rates_mbit):
            problem = SearchProblem(graph=graph, link=Link.constant(float(rate) / 8e-6, rtt_s))
            best = search(problem, [LATENCY], pareto=False).best[LATENCY.name]
            assert best.proven, "latency alone is a minimum cut"
            split[row, column] = best.value
    return {
        "local": np.broadcast_to(subject.whole_s * slower, shape),
        "split": split,
        **{f"offload {name}": np.broadcast_to(grid, shape) for name, grid in offload.items()},
    }


def _interior(subject: Subject, speed: float) -> SearchGraph:
    """Return the graph with its first node on the device and its last one on the server."""
    device = subject.maker.make(DeviceProfile(name="device", speed=speed))
    server = subject.maker.make(DeviceProfile(name="server"))
    graph = search_graph(subject.network, device, server, EnergyModel.of(None), {})
    first, *middle, last = graph.nodes
    ends = (dataclasses.replace(first, pin="device"), dataclasses.replace(last, pin="server"))
    return dataclasses.replace(graph, nodes=(ends[0], *middle, ends[1]))


def _grids(
    subject: Subject,
    plain: dict[str, Grid],
    assumption: BottleneckAssumption,
    rates_mbit: Grid,
    speed: Grid,
    rtt_s: float,
    encodings: Sequence[str] | None = None,
) -> dict[str, Grid]:
    """Return the latency of each kind in seconds, by speed and rate."""
    slower, per_byte = 1 / speed[:, None], 8e-6 / rates_mbit[None, :]
    offloads = [
        plain[f"offload {way.encoding}"] for way in subject.raw if not encodings or way.encoding in encodings
    ]
    places = []
    for place in subject.places:
        nbytes = math.ceil(
            min(assumption.compression * place.elements, assumption.max_raw_fraction * subject.raw[0].nbytes)
        )
        places.append(
            assumption.encoder_fraction * place.head_s * slower
            + nbytes * per_byte
            + rtt_s
            + assumption.decoder_fraction * place.head_s
            + place.tail_s
        )
    return {
        "local": plain["local"],
        "offload": np.minimum.reduce(offloads),
        "split": plain["split"],
        "bottleneck": np.minimum.reduce(places),
    }


def _winner(grids: dict[str, Grid]) -> NDArray[np.intp]:
    return np.argmin([grids[kind] for kind in KINDS], axis=0)


def _over_endpoint(grids: dict[str, Grid]) -> Grid:
    """Return the better endpoint's latency over the winner's."""
    return np.minimum(grids["local"], grids["offload"]) / np.minimum.reduce([grids[kind] for kind in KINDS])


def _over_next(grids: dict[str, Grid]) -> Grid:
    """Return the next best kind's latency over the winner's."""
    best, second = np.sort([grids[kind] for kind in KINDS], axis=0)[:2]
    return np.asarray(second / best)


def _facts(subject: Subject) -> dict[str, Any]:
    ways = {
        way.encoding: {"bytes": way.nbytes, "encode_ms": way.encode_s * 1e3, "decode_ms": way.decode_s * 1e3}
        for way in subject.raw
    }
    return {
        "whole_ms": {
            "median": subject.whole_s * 1e3,
            "min": (subject.whole_s - subject.spread_s / 2) * 1e3,
            "max": (subject.whole_s + subject.spread_s / 2) * 1e3,
        },
        "nodes": len(subject.network.graph.nodes),
        "places_for_a_bottleneck": len(subject.places),
        "input": ways,
    }


def _winners(grids: dict[str, Grid]) -> dict[str, Any]:
    winner = _winner(grids)
    return {"share_won": {kind: float((winner == index).mean()) for index, kind in enumerate(KINDS)}}


def _gains(grids: dict[str, Grid]) -> dict[str, Any]:
    """Return the winners' gains where each kind wins; a kind that never wins has none."""
    winner, over_next, over_endpoint = _winner(grids), _over_next(grids), _over_endpoint(grids)
    found: dict[str, Any] = {}
    for index, kind in enumerate(KINDS):
        won = winner == index
        if won.any():
            found[kind] = {"over_the_next_best": _spread(over_next[won])}
            if kind in ("split", "bottleneck"):
                found[kind]["over_the_better_endpoint"] = _spread(over_endpoint[won])
    return found


def _spread(values: Grid) -> dict[str, float]:
    low, middle, high = np.percentile(values, [0, 50, 100])
    return {"median": float(middle), "min": float(low), "max": float(high), "mean": float(values.mean())}


def _sensitivity(
    subject: Subject, plain: dict[str, Grid], rates_mbit: Grid, speed: Grid, rtt_s: float
) -> dict[str, Any]:
    """Return how often and by how much a bottleneck wins under other assumptions."""
    base = BottleneckAssumption()
    cases: dict[str, tuple[BottleneckAssumption, Sequence[str] | None]] = {
        "as assumed": (base, None),
        "input never as jpeg": (base, ("uint8",)),
    }
    for part in (12, 24, 48, 96):
        one = BottleneckAssumption(max_raw_fraction=1 / part)
        cases[f"payload at most 1/{part} of raw"] = (one, None)
    for label, fraction in (("1/6", 1 / 6), ("2/3", 2 / 3), ("1", 1.0)):
        cases[f"encoder {label} of the head"] = (BottleneckAssumption(encoder_fraction=fraction), None)
    cases["decoder as long as the head"] = (BottleneckAssumption(decoder_fraction=1.0), None)
    found = {}
    for label, (assumption, encodings) in cases.items():
        grids = _grids(subject, plain, assumption, rates_mbit, speed, rtt_s, encodings)
        won = _winner(grids) == KINDS.index("bottleneck")
        gains = _over_endpoint(grids)[won]
        found[label] = {
            "bottleneck_share": float(won.mean()),
            "raw_split_share": float((_winner(grids) == KINDS.index("split")).mean()),
            "mean_gain": float(gains.mean()) if won.any() else 1.0,
            "largest_gain": float(gains.max()) if won.any() else 1.0,
        }
    return found


def _printed(grids: dict[str, Grid], rates_mbit: Grid, speed: Grid) -> dict[str, Any]:
    """Return the grid as text: for each speed the winner's letter at every rate, slowest first."""
    winner = _winner(grids)
    letters = [LETTERS[kind] for kind in KINDS]
    rows = {
        f"{value:.3g}": "".join(letters[index] for index in row)
        for value, row in zip(speed, winner, strict=True)
    }
    return {
        "letters": "L local, O offload, S raw split, B bottleneck",
        "rates_mbit": f"{rates_mbit[0]:g} to {rates_mbit[-1]:g}, {len(rates_mbit)} on a logarithmic scale",
        "winner_by_device_speed": rows,
    }
