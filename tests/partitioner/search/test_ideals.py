"""Blocks and device sets, and cuts against them on graphs too large for brute force."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.partitioner.search import (
    LATENCY,
    Link,
    Objective,
    SearchGraph,
    SearchNode,
    SearchProblem,
    SearchTensor,
    search,
)
from isthmus.partitioner.search.growth import Growth, members
from isthmus.partitioner.search.ideals import Block, blocks, ideals, starts
from isthmus.partitioner.search.maxflow import CutNetwork
from isthmus.partitioner.search.regions import Region

ANYTHING = Region(0, 0, frozenset())


def closed_sets(graph: SearchGraph) -> set[int]:
    edges = [(t.producer, reader) for t in graph.tensors if t.producer is not None for reader in t.consumers]
    return {
        mask
        for mask in range(1 << len(graph.nodes))
        if all(mask >> source & 1 or not mask >> reader & 1 for source, reader in edges)
    }


@given(st.integers(0, 2**40))
@settings(max_examples=150)
def test_every_closed_set_once(random_problem, seed: int) -> None:
    graph = random_problem(seed).graph
    growth = Growth(graph)
    found = blocks(growth)
    before = starts(growth, found)
    sets = [state for block in found for state in ideals(growth, block, ANYTHING, before[block])]
    masks = [state.mask for state in sets]
    assert len(set(masks)) == len(masks)
    assert set(masks) == closed_sets(graph)
    # What was added up step by step is what adding it all up gives.
    assert all(state == growth.state_of(state.mask) for state in sets)
    # A place is a border of blocks exactly if every closed set is on one side of it.
    for place in range(1, len(graph.nodes)):
        prefix = (1 << place) - 1
        one_sided = all(mask & ~prefix == 0 or mask & prefix == prefix for mask in masks)
        assert one_sided == any(block.first == place for block in found)


def line(count: int, *extra: SearchTensor) -> SearchGraph:
    nodes = tuple(SearchNode(key=f"n{i}", device_s=1, server_s=1) for i in range(count))
    tensors = tuple(
        SearchTensor(name=f"t{i}", nbytes=1, producer=i or None, consumers=(i,) if not i else (i + 1,))
        for i in range(count - 1)
    )
    first = SearchTensor(name="first", nbytes=1, producer=0, consumers=(1,))
    return SearchGraph(nodes=nodes, tensors=(*tensors, first, *extra))


def test_skips_and_late_inputs_leave_the_blocks_of_a_line_alone() -> None:
    skip = SearchTensor(name="skip", nbytes=1, producer=0, consumers=(2, 4))
    mask = SearchTensor(name="mask", nbytes=1, producer=None, consumers=(1, 3))
    assert blocks(Growth(line(5, skip, mask))) == [Block(i, i + 1) for i in range(5)]


def test_a_dead_end_takes_the_pinches_behind_it() -> None:
    nodes = tuple(SearchNode(key=f"n{i}", device_s=1, server_s=1) for i in range(5))
    reads = [("a", 0, (1, 2)), ("b", 2, (3,)), ("c", 3, (4,)), ("side", 1, ())]
    tensors = tuple(SearchTensor(name=n, nbytes=1, producer=p, consumers=c) for n, p, c in reads)
    graph = SearchGraph(nodes=nodes, tensors=tensors)
    # b and c are single-tensor cuts of the way to the last node, but n1 need not be on the device there.
    assert blocks(Growth(graph)) == [Block(0, 1), Block(1, 5)]


def test_members() -> None:
    assert members(0) == []
    assert members(0b1011 << 900) == [900, 901, 903]


def large_problem(seed: int) -> SearchProblem:
    """A network of floats, 25 to 60 nodes, narrow enough to try every device set."""
    r = random.Random(seed)
    count = r.randint(25, 60)
    nodes = tuple(
        SearchNode(
            key=f"n{i}", device_s=r.expovariate(100), server_s=r.expovariate(1000), device_j=r.random()
        )
        for i in range(count)
    )
    readers: list[list[int]] = [[] for _ in range(count + 1)]
    for index in range(count):
        for made in {max(0, index - r.choice([0, 0, 0, 1, 2, 3])) for _ in range(r.choice([1, 1, 2]))}:
            readers[made].append(index)
    for made, reading in enumerate(readers[:-1]):
        if not reading:  # few ends, as in a network: every other branch joins again soon
            reading.append(min(count - 1, made + r.randint(1, 3)))
    tensors = tuple(
        SearchTensor(
            name=f"t{i}",
            nbytes=int(r.expovariate(1 / 2e4)),
            producer=i - 1 if i else None,
            consumers=tuple(reading),
            is_output=not reading,
        )
        for i, reading in enumerate(readers)
    )
    rate = 10 ** r.uniform(4.5, 8)
    return SearchProblem(graph=SearchGraph(nodes=nodes, tensors=tensors), link=Link.constant(rate, 0.005))


def test_cuts_equal_enumeration_on_larger_graphs() -> None:
    mix = Objective(kind="weighted", alpha=0.7, beta=0.01)
    compared = interior = 0
    for seed in range(40):
        problem = large_problem(seed)
        tried = search(problem, [LATENCY, mix], most_sets=1500)
        cut = search(problem, [LATENCY, mix], pareto=False, most_sets=0)
        for name, best in tried.best.items():
            assert cut.best[name].proven
            assert cut.best[name].value == pytest.approx(best.value, rel=1e-9)
        compared += tried.pareto_exact
        interior += cut.best["latency"].split.kind == "split"
    assert compared > 20
    assert interior > 5


@given(st.integers(0, 2**40))
@settings(max_examples=150)
def test_the_cut_is_least(seed: int) -> None:
    r = random.Random(seed)
    count = r.randint(1, 7)
    network = CutNetwork()
    for _ in range(count):
        vertex = network.vertex()
        network.supply[vertex], network.demand[vertex] = r.choice([0, r.randint(0, 20)]), r.randint(0, 9)
    arcs = []
    for _ in range(r.randint(0, 3 * count) if count > 1 else 0):
        tail, head = r.sample(range(count), 2)
        arcs += [(tail, head, r.randint(0, 9)), (head, tail, r.choice([0, 1000]))]
        network.arc(tail, head, arcs[-2][2], arcs[-1][2])
    supply, demand = list(network.supply), list(network.demand)

    def value(near) -> int:
        total = sum(demand[v] if near[v] else supply[v] for v in range(count))
        return total + sum(size for tail, head, size in arcs if near[tail] and not near[head])

    least = min((value(near), -sum(near)) for near in itertools.product([False, True], repeat=count))
    near = network.near_side()
    assert (value(near), -sum(near)) == least
    assert least[0] < math.inf
