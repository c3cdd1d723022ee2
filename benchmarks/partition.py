"""The partition search: milliseconds and megabytes from 30 to 2,000 nodes, and how they grow.

Graphs are synthetic, of the shapes that networks have: a chain; residual blocks; inception-like and densely
connected blocks; a transformer's operators, with branches for query, key and value and a mask that every
layer reads; an encoder and a decoder with nodes on the skips between them, most of it one block; and a tangle
with many outputs and without a single place where everything passes, the worst case. Costs are drawn around a
device of 10 GFLOP/s and a server 20 times as fast.

Each round solves every graph at seven link rates from 0.1 to 100 Mbit/s, with and without the rule that no
raw input leaves the device (with it an interior cut wins more often). A figure is the median and the spread
over all of these, so that hard rates count as well as those at which an endpoint wins at a glance. Before
anything is timed, cut and enumeration have to agree on the small graphs, wherever enumeration ends. Times are
CPU times of the one thread that computes.

`latency` is the search for the least latency alone, by minimum cut. `everything` is one search for latency,
energy, throughput and the Pareto set at 3 Mbit/s, which tries device sets one by one and bounds the rest; a
gap is what the bound leaves open, as a share of the best value found. Peak memory is what Python allocates
during one more such search, by tracemalloc, beside the graph itself.
"""

from __future__ import annotations

import math
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

from isthmus.partitioner.search import (
    LATENCY,
    MOST_SETS,
    Constraints,
    DevicePower,
    Found,
    Link,
    RawInput,
    SearchGraph,
    SearchNode,
    SearchProblem,
    SearchTensor,
    search,
)

SEED = 20_241
SIZES = (30, 64, 128, 256, 577, 1000, 2000)
RATES_MBIT = (0.1, 0.3, 1, 3, 10, 30, 100)
EVERYTHING_AT = (64, 128, 577, 2000)
MOST_SETS_QUICK = 1_000
TARGETS_MS = {577: 50, 2000: 500}
FLOPS_PER_S = 1e10
SERVER_SPEED = 20.0


class Drawing:
    """A network that is drawn node by node; tensors are numbered as they are made."""

    def __init__(self, size: int, rng: random.Random) -> None:
        self.size, self.rng = size, rng
        self._nodes: list[SearchNode] = []
        self._made: list[tuple[int | None, int]] = []
        self._readers: list[list[int]] = []

    @property
    def full(self) -> bool:
        """Whether all nodes are drawn."""
        return len(self._nodes) >= self.size

    @property
    def depth(self) -> float:
        """Share of the network that is drawn."""
        return len(self._nodes) / self.size

    def source(self, nbytes: int) -> int:
        """Add an input of the network."""
        self._made.append((None, nbytes))
        self._readers.append([])
        return len(self._made) - 1

    def op(self, reads: Sequence[int], nbytes: float, flops: float) -> int:
        """Add a node that reads some tensors and makes one, unless the network is full already."""
        if self.full:
            return reads[0]
        index = len(self._nodes)
        device_s = flops / FLOPS_PER_S * self.rng.uniform(0.7, 1.4) + 5e-6
        self._nodes.append(
            SearchNode(
                key=f"n{index}",
                device_s=device_s,
                server_s=device_s / SERVER_SPEED * self.rng.uniform(0.5, 2.0),
                device_j=4.0 * device_s,
                weight_bytes=int(flops / 100),
            )
        )
        for tensor in dict.fromkeys(reads):
            self._readers[tensor].append(index)
        self._made.append((index, int(nbytes)))
        self._readers.append([])
        return len(self._made) - 1

    def graph(self) -> SearchGraph:
        """Return it; what nobody reads is an output."""
        tensors = tuple(
            SearchTensor(
                name=f"t{index}",
                nbytes=nbytes,
                producer=producer,
                consumers=tuple(readers),
                is_output=not readers,
            )
            for index, ((producer, nbytes), readers) in enumerate(zip(self._made, self._readers, strict=True))
        )
        return SearchGraph(nodes=tuple(self._nodes), tensors=tensors)


def _map_bytes(draw: Drawing) -> float:
    """Return the bytes of a feature map: they halve with every stage of the network."""
    return 3.2e6 * 0.5 ** math.floor(5 * draw.depth)


def chain(draw: Drawing) -> None:
    x = draw.source(602_112)
    while not draw.full:
        x = draw.op([x], _map_bytes(draw), 5e7)
        x = draw.op([x], _map_bytes(draw), 1e6)


def residual(draw: Drawing) -> None:
    x = draw.source(602_112)
    while not draw.full:
        y = x
        for _ in range(3):
            y = draw.op([y], _map_bytes(draw) / 4, 5e7)
            y = draw.op([y], _map_bytes(draw) / 4, 1e6)
        x = draw.op([x, y], _map_bytes(draw), 1e6)
        x = draw.op([x], _map_bytes(draw), 1e6)


def branches(draw: Drawing) -> None:
    """Inception's four branches, then four layers that read all before them, and so on."""
    x = draw.source(602_112)
    while not draw.full:
        ends = []
        for depth in (1, 2, 4, 6):
            y = x
            for _ in range(depth):
                y = draw.op([y], _map_bytes(draw) / 4, 4e7)
            ends.append(y)
        x = draw.op(ends, _map_bytes(draw), 1e6)
        layers = [x]
        for _ in range(4):
            y = draw.op(layers, _map_bytes(draw), 1e6)
            layers.append(draw.op([y], _map_bytes(draw) / 8, 5e7))
        x = draw.op(layers, _map_bytes(draw), 1e6)


def transformer(draw: Drawing) -> None:
    """Operators of layers of 197 tokens of 384; the shape of the heads and a mask are read in every layer."""
    tokens = 197 * 384 * 4
    x = draw.op([draw.source(150_528)], tokens, 1e8)
    mask = draw.op([draw.source(197)], 197 * 4, 1e3)
    while not draw.full:
        normal = draw.op([draw.op([x], tokens, 1e6)], tokens, 1e6)
        parts = []
        for _ in range(3):
            y = draw.op([draw.op([normal], tokens, 6e7)], tokens, 1e6)
            parts.append(draw.op([draw.op([y], tokens, 1e5)], tokens, 1e5))
        query, key, value = parts
        scores = draw.op([draw.op([query, key], 6 * 197 * 197 * 4, 3e7)], 6 * 197 * 197 * 4, 1e6)
        weights = draw.op([draw.op([scores, mask], 6 * 197 * 197 * 4, 1e6)], 6 * 197 * 197 * 4, 1e6)
        y = draw.op([weights, value], tokens, 3e7)
        y = draw.op([draw.op([y], tokens, 1e5)], tokens, 6e7)
        x = draw.op([x, draw.op([y], tokens, 1e6)], tokens, 1e6)
        y = draw.op([draw.op([x], tokens, 1e6)], 4 * tokens, 2.4e8)
        gate = draw.op([draw.op([y], 4 * tokens, 1e6)], 4 * tokens, 1e6)
        y = draw.op([draw.op([y, gate], 4 * tokens, 1e6)], tokens, 2.4e8)
        x = draw.op([x, y], tokens, 1e6)


def skips(draw: Drawing) -> None:
    """An encoder, and a decoder whose every stage reads the encoder's over four nodes: one large block."""
    x = draw.source(602_112)
    kept = []
    stages = max(2, draw.size // 28)
    for stage in range(stages):
        for _ in range(12):
            x = draw.op([x], 3.2e6 / (1 + stage / 2), 4e7)
        kept.append(x)
    for stage in reversed(range(stages)):
        beside = kept[stage]
        for _ in range(4):
            beside = draw.op([beside], 1.6e6 / (1 + stage / 2), 4e7)
        x = draw.op([x, beside], 3.2e6 / (1 + stage / 2), 1e6)
        for _ in range(11):
            x = draw.op([x], 3.2e6 / (1 + stage / 2), 4e7)
    while not draw.full:
        x = draw.op([x], 1e4, 1e6)


def tangle(draw: Drawing) -> None:
    """Every node reads one to three of the last twenty tensors."""
    made = [draw.source(602_112)]
    while not draw.full:
        recent = made[-20:]
        made.append(
            draw.op(
                draw.rng.sample(recent, min(len(recent), draw.rng.choice([1, 1, 2, 3]))),
                draw.rng.uniform(0.05, 1.0) * _map_bytes(draw),
                draw.rng.uniform(0, 6e7),
            )
        )


SHAPES: dict[str, Callable[[Drawing], None]] = {
    "chain": chain,
    "residual": residual,
    "branches": branches,
    "transformer": transformer,
    "skips": skips,
    "tangle": tangle,
}


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return `figures` and `ratios` of every shape and size; `quick` takes fewer of each."""
    rounds, most_sets = (1, MOST_SETS_QUICK) if quick else (3, MOST_SETS)
    sizes = SIZES[:2] if quick else SIZES
    rates = RATES_MBIT[::3] if quick else RATES_MBIT
    problems = {
        (shape, size): [_problem(shape, size, rate, private=rule) for rate in rates for rule in (False, True)]
        for shape in SHAPES
        for size in sizes
    }
    compared = _check(problems, most_nodes=128)
    taken: dict[tuple[str, int], list[float]] = {case: [] for case in problems}
    for _ in range(rounds):
        for case, several in problems.items():
            for problem in several:
                started = time.thread_time_ns()
                search(problem, [LATENCY], pareto=False)
                taken[case].append((time.thread_time_ns() - started) / 1e6)
    figures: dict[str, Any] = {
        "rates_mbit": list(rates),
        "rounds": rounds,
        "cuts_that_equal_enumeration": compared,
    }
    for (shape, size), values in taken.items():
        middle = _problem(shape, size, 3.0, private=False)
        figures.setdefault(shape, {})[f"{size} nodes"] = {
            "latency_ms": _spread(values),
            "latency_peak_mb": _peak_mb(middle),
            "everything_peak_mb": _peak_mb(middle, most_sets) if size <= 128 else "not run",
            "everything": _everything(middle, most_sets) if size in EVERYTHING_AT else "not run",
        }
    return {"figures": figures, "ratios": _ratios(figures, sizes)}


def _problem(shape: str, size: int, rate_mbit: float, *, private: bool) -> SearchProblem:
    """Return the graph of `shape` with exactly `size` nodes, at one link rate; equal for every rate."""
    draw = Drawing(size, random.Random(f"{SEED} {shape} {size}"))
    SHAPES[shape](draw)
    graph = draw.graph()
    image = RawInput(encoding="jpeg q90", nbytes=40_000, encode_s=2e-3, decode_s=5e-4)
    plain = RawInput(encoding="uint8", nbytes=150_528)
    first = next(tensor.name for tensor in graph.tensors if tensor.producer is None)
    return SearchProblem(
        graph=graph,
        link=Link.constant(rate_mbit * 125e3, 0.02),
        power=DevicePower(idle_w=1.5, transmit_w=1.0),
        raw={first: (plain, image)},
        constraints=Constraints(no_raw_input=private),
    )


def _check(problems: dict[tuple[str, int], list[SearchProblem]], *, most_nodes: int) -> int:
    """Compare cut and enumeration; return how often both had an answer."""
    compared = 0
    for (shape, size), several in problems.items():
        for problem in several if size <= most_nodes else ():
            cut = search(problem, [LATENCY], pareto=False, most_sets=0).best["latency"]
            tried = search(problem, [LATENCY], most_sets=MOST_SETS_QUICK)
            best = tried.best["latency"]
            if not (cut.proven and best.proven and math.isclose(cut.value, best.value, rel_tol=1e-9)):
                raise AssertionError(f"{shape} of {size} nodes: {cut.value} by cut, {best.value} by trying")
            compared += tried.pareto_exact
    return compared


def _everything(problem: SearchProblem, most_sets: int) -> dict[str, Any]:
    started = time.thread_time_ns()
    found: Found = search(problem, most_sets=most_sets)
    taken_ms = (time.thread_time_ns() - started) / 1e6
    return {
        "ms": taken_ms,
        "splits_weighed": found.considered,
        "pareto": len(found.pareto),
        "pareto_exact": found.pareto_exact,
        **{
            f"{name}_gap": 0.0 if best.proven else (best.value - best.bound) / best.value
            for name, best in found.best.items()
        },
    }


def _peak_mb(problem: SearchProblem, most_sets: int | None = None) -> float:
    tracemalloc.start()
    try:
        if most_sets is None:
            search(problem, [LATENCY], pareto=False)
        else:
            search(problem, most_sets=most_sets)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def _spread(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {
        "median": median,
        "first_quartile": low,
        "third_quartile": high,
        "min": min(values),
        "max": max(values),
    }


def _ratios(figures: dict[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """Return times over their targets, at the median and at the worst, and the exponent of growth."""
    ratios: dict[str, Any] = {}
    for shape in SHAPES:
        of = {size: figures[shape][f"{size} nodes"]["latency_ms"] for size in sizes}
        ratios[shape] = {
            f"{size}_nodes_over_{TARGETS_MS[size]}_ms": {
                "median": of[size]["median"] / TARGETS_MS[size],
                "max": of[size]["max"] / TARGETS_MS[size],
            }
            for size in sizes
            if size in TARGETS_MS
        }
        growth = math.log(of[sizes[-1]]["median"] / of[sizes[0]]["median"])
        ratios[shape]["growth_exponent"] = growth / math.log(sizes[-1] / sizes[0])
    return ratios
