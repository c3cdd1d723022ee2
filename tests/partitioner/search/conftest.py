"""Random problems in exact numbers, and every answer to them by definition: no code of the search is used."""

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import pytest

from isthmus.partitioner.search import (
    Bottleneck,
    Constraints,
    DevicePower,
    Link,
    Objective,
    RawInput,
    SearchGraph,
    SearchNode,
    SearchProblem,
    SearchTensor,
)


@dataclass(frozen=True)
class Way:
    """One way to run the network; `figures` are latency, energy, bytes and period."""

    mask: int
    frontier: frozenset[str]
    encodings: dict[str, str]
    bottleneck: str | None
    figures: tuple
    late: Fraction
    memory: int
    accuracy: Fraction | None

    def value(self, objective: Objective):
        latency, energy, _, period = self.figures
        if objective.kind == "weighted":
            return math.inf if latency == math.inf else objective.alpha * latency + objective.beta * energy
        return {"latency": latency, "energy": energy, "throughput": period, "on-time": self.late}[
            objective.kind
        ]


def _closed_sets(graph: SearchGraph) -> Iterator[frozenset[int]]:
    needs = [set() for _ in graph.nodes]
    for tensor in graph.tensors:
        for reader in tensor.consumers:
            if tensor.producer is not None:
                needs[reader].add(tensor.producer)
    for size in range(len(graph.nodes) + 1):
        for chosen in itertools.combinations(range(len(graph.nodes)), size):
            if all(needs[node] <= set(chosen) for node in chosen):
                yield frozenset(chosen)


def _crossing(graph: SearchGraph, device: frozenset[int]) -> list[SearchTensor]:
    return [
        tensor
        for tensor in graph.tensors
        if (tensor.producer is None or tensor.producer in device)
        and any(reader not in device for reader in tensor.consumers)
    ]


def _memory(graph: SearchGraph, device: frozenset[int]) -> int:
    if not device:
        return 0
    alive = {t.name for t in graph.tensors if t.producer is None and t.consumers}
    size = {t.name: t.nbytes or 0 for t in graph.tensors}
    done, peak = set(), 0
    for node in sorted(device):
        alive |= {t.name for t in graph.tensors if t.producer == node}
        peak = max(peak, sum(size[name] for name in alive))
        done.add(node)
        alive = {
            t.name for t in graph.tensors if t.name in alive and (t.is_output or set(t.consumers) - done)
        }
    return peak + sum(graph.nodes[node].weight_bytes for node in device)


def _figures(problem: SearchProblem, device_s, server_s, nbytes, joules, *, offloads: bool):
    deadline, rates = problem.constraints.deadline_s, [item for item in problem.link.rates if item[0]]
    if not offloads:
        return (device_s, joules, nbytes, device_s), Fraction(deadline is not None and device_s > deadline)
    fixed = device_s + server_s + problem.link.rtt_s
    late = sum(
        chance
        for chance, rate in rates
        if deadline is not None and (rate == 0 or fixed + Fraction(nbytes) / rate > deadline)
    )
    if any(rate == 0 for _, rate in rates):
        return (math.inf, math.inf, nbytes, math.inf), Fraction(late)
    transfer = sum(chance * nbytes / rate for chance, rate in rates)
    power = problem.power
    energy = joules + nbytes * power.joules_per_byte + transfer * power.transmit_w
    energy += (transfer + server_s + problem.link.rtt_s) * power.idle_w
    return (fixed + transfer, energy, nbytes, max(device_s, transfer, server_s)), Fraction(late)


def _plain(problem: SearchProblem, device: frozenset[int]) -> Iterator[Way]:
    graph, limits = problem.graph, problem.constraints
    everything = len(device) == len(graph.nodes)
    if any(node.pin == "server" and i in device for i, node in enumerate(graph.nodes)):
        return
    if any(node.pin == "device" and i not in device for i, node in enumerate(graph.nodes)):
        return
    crossing = _crossing(graph, device)
    frontier = frozenset(tensor.name for tensor in crossing)
    if device and not everything and limits.allowed_cuts is not None and frontier not in limits.allowed_cuts:
        return
    inputs = [tensor for tensor in crossing if tensor.producer is None]
    if inputs and limits.no_raw_input:
        return
    ways = []
    for tensor in inputs:
        as_is = [] if tensor.nbytes is None else [RawInput(encoding="plain", nbytes=tensor.nbytes)]
        ways.append(problem.raw.get(tensor.name, as_is))
    inner = [tensor.nbytes for tensor in crossing if tensor.producer is not None]
    if None in inner:
        return
    for chosen in itertools.product(*ways):
        figures, late = _figures(
            problem,
            sum(graph.nodes[i].device_s for i in device) + sum(way.encode_s for way in chosen),
            sum(n.server_s for i, n in enumerate(graph.nodes) if i not in device)
            + sum(way.decode_s for way in chosen),
            sum(inner) + sum(way.nbytes for way in chosen),
            sum(graph.nodes[i].device_j for i in device) + sum(way.encode_j for way in chosen),
            offloads=not everything,
        )
        yield Way(
            mask=sum(1 << i for i in device),
            frontier=frontier,
            encodings={tensor.name: way.encoding for tensor, way in zip(inputs, chosen, strict=True)},
            bottleneck=None,
            figures=figures,
            late=late,
            memory=_memory(graph, device),
            accuracy=problem.accuracy,
        )


def _learned(problem: SearchProblem, item: Bottleneck) -> Iterator[Way]:
    graph = problem.graph
    # The least closed set at whose border the cut is.
    device = next(
        device
        for device in _closed_sets(graph)
        if all(t.producer is None or t.producer in device for t in graph.tensors if t.name in item.cut)
    )
    pins = {i: node.pin for i, node in enumerate(graph.nodes) if node.pin}
    if any(pin == "device" and i not in device for i, pin in pins.items()):
        return
    if item.keeps_head and any(pin == "server" and i in device for i, pin in pins.items()):
        return
    allowed = problem.constraints.allowed_cuts
    if device and allowed is not None and item.cut not in allowed:
        return
    kept = device if item.keeps_head else frozenset()
    figures, late = _figures(
        problem,
        item.encoder_s + sum(graph.nodes[i].device_s for i in kept),
        item.decoder_s + sum(n.server_s for i, n in enumerate(graph.nodes) if i not in device),
        item.nbytes,
        item.encoder_j + sum(graph.nodes[i].device_j for i in kept),
        offloads=True,
    )
    yield Way(
        mask=sum(1 << i for i in device),
        frontier=item.cut,
        encodings={},
        bottleneck=item.name,
        figures=figures,
        late=late,
        memory=item.memory_bytes + _memory(graph, kept),
        accuracy=item.accuracy,
    )


def _brute_force(problem: SearchProblem) -> list[Way]:
    found = [way for device in _closed_sets(problem.graph) for way in _plain(problem, device)]
    found += [way for item in problem.bottlenecks for way in _learned(problem, item)]
    most = problem.constraints.device_memory_bytes
    return [way for way in found if most is None or way.memory <= most]


def _some(r: random.Random, most: int) -> Fraction:
    return Fraction(r.choice([0, r.randint(0, most), r.randint(0, most)]), r.choice([1, 2, 3, 8]))


def _random_graph(r: random.Random, most_nodes: int, *, sizes_known: bool = True) -> SearchGraph:
    """Several inputs and outputs, tensors with several readers, nodes of two outputs, dead ends."""
    count = r.randint(1, most_nodes)
    nearby = r.choice([2, 3, count])  # small: long networks with many pinches; large: dense ones
    made = [(None, f"in{i}") for i in range(r.randint(1, 3))]
    readers: dict[str, list[int]] = {name: [] for _, name in made}
    nodes = []
    for index in range(count):
        pin = r.choice(["device", "server"]) if r.random() < 0.04 else None
        nodes.append(
            SearchNode(
                key=f"n{index}",
                device_s=_some(r, 40),
                server_s=_some(r, 8),
                device_j=_some(r, 20),
                weight_bytes=r.choice([0, r.randint(0, 50)]),
                pin=pin,
            )
        )
        recent = made[-nearby:] if r.random() < 0.9 else made
        for _, name in r.sample(recent, min(len(recent), r.choice([1, 1, 1, 2, 3]))):
            readers[name].append(index)
        if r.random() < 0.03:  # reads nothing but constants
            for rows in readers.values():
                if index in rows:
                    rows.remove(index)
        for part in range(r.choice([1, 1, 1, 2])):
            made.append((index, f"t{index}.{part}"))
            readers[f"t{index}.{part}"] = []
    tensors = [
        SearchTensor(
            name=name,
            nbytes=r.choice([0, r.randint(1, 60), r.randint(1, 60)])
            if sizes_known or r.random() < 0.85
            else None,
            producer=producer,
            consumers=tuple(readers[name]),
            is_output=producer is not None and (r.random() < 0.5 if not readers[name] else r.random() < 0.1),
        )
        for producer, name in made
    ]
    r.shuffle(tensors)
    return SearchGraph(nodes=tuple(nodes), tensors=tuple(tensors))


def _random_link(r: random.Random) -> Link:
    rtt = _some(r, 10)
    kind = r.random()
    if kind < 0.1:
        return Link.constant(0, rtt)
    if kind < 0.5:
        return Link.constant(Fraction(r.randint(1, 30), r.choice([1, 3])), rtt)
    parts = [r.randint(1, 5) for _ in range(r.randint(2, 4))]
    low = 0 if r.random() < 0.2 else 1
    return Link(
        rates=tuple((Fraction(part, sum(parts)), Fraction(r.randint(low, 30))) for part in parts), rtt_s=rtt
    )


def _random_bottlenecks(r: random.Random, graph: SearchGraph) -> tuple[Bottleneck, ...]:
    found = []
    for device in _closed_sets(graph):
        frontier = {t.name for t in _crossing(graph, device)}
        producers = {t.producer for t in graph.tensors if t.name in frontier} - {None}
        least = all(not producers <= smaller for smaller in _closed_sets(graph) if smaller < device)
        if frontier and least and r.random() < 0.15:
            found.append(
                Bottleneck(
                    name=f"b{len(found)}",
                    cut=frozenset(frontier),
                    encoder_s=_some(r, 20),
                    decoder_s=_some(r, 8),
                    nbytes=r.randint(0, 20),
                    accuracy=r.choice([None, Fraction(r.randint(1, 9), 10)]),
                    encoder_j=_some(r, 10),
                    memory_bytes=r.randint(0, 60),
                    keeps_head=r.random() < 0.3,
                )
            )
    return tuple(found[:4])


def _random_problem(seed: int, *, most_nodes: int = 8) -> SearchProblem:
    r = random.Random(seed)
    graph = _random_graph(r, most_nodes, sizes_known=r.random() < 0.8)
    raw = {}
    for tensor in graph.tensors:
        if tensor.producer is None and r.random() < 0.6:
            raw[tensor.name] = tuple(
                RawInput(
                    encoding=f"way{i}",
                    nbytes=r.randint(0, 60),
                    encode_s=_some(r, 4),
                    decode_s=_some(r, 4),
                    encode_j=_some(r, 4),
                )
                for i in range(r.randint(1, 3))
            )
    names = [tensor.name for tensor in graph.tensors]
    allowed = None
    if r.random() < 0.2:
        cuts = [frozenset(r.sample(names, r.randint(1, min(2, len(names))))) for _ in range(3)]
        for device in r.sample(list(_closed_sets(graph)), 1) * 2:
            cuts.append(frozenset(tensor.name for tensor in _crossing(graph, device)))
        allowed = frozenset(cuts)
    return SearchProblem(
        graph=graph,
        link=_random_link(r),
        power=DevicePower(idle_w=_some(r, 3), transmit_w=_some(r, 3), joules_per_byte=_some(r, 1)),
        raw=raw,
        constraints=Constraints(
            device_memory_bytes=r.randint(0, 250) if r.random() < 0.3 else None,
            deadline_s=Fraction(r.randint(1, 120)) if r.random() < 0.5 else None,
            deadline_probability=Fraction(r.randint(1, 4), 4),
            no_raw_input=r.random() < 0.15,
            allowed_cuts=allowed,
        ),
        bottlenecks=_random_bottlenecks(r, graph) if r.random() < 0.4 else (),
        accuracy=r.choice([None, Fraction(8, 10)]),
    )


@pytest.fixture(scope="session")
def random_problem() -> Callable[..., SearchProblem]:
    """Return `make(seed, most_nodes=8)`, a problem in fractions."""
    return _random_problem


@pytest.fixture(scope="session")
def brute_force() -> Callable[[SearchProblem], list[Way]]:
    """Return `all_ways(problem)`: every way that keeps all but the deadline, by definition."""
    return _brute_force
