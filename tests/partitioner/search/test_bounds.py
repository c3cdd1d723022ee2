"""Limits and stages beyond enumeration: bounds hold, and mostly meet, where enumeration knows the truth."""

import random
from dataclasses import replace
from fractions import Fraction

from isthmus.partitioner.search import (
    ENERGY,
    LATENCY,
    THROUGHPUT,
    Constraints,
    Link,
    SearchGraph,
    SearchNode,
    SearchProblem,
    SearchTensor,
    search,
)


def ladder(seed: int) -> SearchProblem:
    """Two branches side by side with steps between: one block of 20 nodes, in exact numbers."""
    r = random.Random(seed)
    nodes = tuple(
        SearchNode(
            key=f"n{i}",
            device_s=Fraction(r.randint(1, 40), 100),
            server_s=Fraction(r.randint(1, 40), 1000),
            device_j=Fraction(r.randint(1, 40), 10),
            weight_bytes=r.randint(1, 60),
        )
        for i in range(20)
    )
    tensors = [SearchTensor(name="image", nbytes=r.randint(50, 300), producer=None, consumers=(0, 1))]
    for i in range(20):
        readers = {i + 2} | ({i + 3} if i % 2 == 0 and r.random() < 0.3 else set())
        consumers = tuple(sorted(reader for reader in readers if reader < 20))
        tensors.append(
            SearchTensor(
                name=f"t{i}",
                nbytes=r.randint(5, 200) // (1 + i // 3),
                producer=i,
                consumers=consumers,
                is_output=not consumers,
            )
        )
    graph = SearchGraph(nodes=nodes, tensors=tuple(tensors))
    return SearchProblem(graph=graph, link=Link.constant(Fraction(r.randint(30, 300)), Fraction(1, 20)))


def test_bounds_hold_and_mostly_meet() -> None:
    proven = asked = 0
    for seed in range(24):
        free = ladder(seed)
        fastest = search(free, [LATENCY], pareto=False).best["latency"].value
        weights = sum(node.weight_bytes for node in free.graph.nodes)
        limits = Constraints(deadline_s=fastest * Fraction(5, 4))
        if seed % 2:
            limits = Constraints(device_memory_bytes=weights // 2)
        problem = replace(free, constraints=limits)
        truth = search(problem, [LATENCY, ENERGY, THROUGHPUT])
        assert truth.pareto_exact
        bounded = search(problem, [LATENCY, ENERGY, THROUGHPUT], most_sets=0)
        assert not bounded.pareto_exact
        for name, best in bounded.best.items():
            value = truth.best[name].value
            assert best.bound <= value <= best.value
            assert best.value <= value * Fraction(3, 2)
            assert best.proven == (best.bound == best.value)
            proven, asked = proven + best.proven, asked + 1
    assert asked / 2 < proven < asked


def test_a_deadline_nothing_keeps_is_proven_so() -> None:
    problem = replace(ladder(1), constraints=Constraints(deadline_s=Fraction(1, 1000)))
    best = search(problem, [ENERGY], pareto=False, most_sets=0).best["energy"]
    assert (best.split, best.proven) == (None, True)


def test_half_of_the_sets_is_said_to_be_half() -> None:
    problem = ladder(2)
    found = search(problem, [THROUGHPUT], most_sets=30)
    assert not found.pareto_exact
    assert "1 blocks of up to 20 nodes have too many to try them all" in found.how
    assert found.considered >= 30
