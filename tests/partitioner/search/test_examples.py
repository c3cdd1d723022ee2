"""Small networks whose answers can be worked out by hand."""

from dataclasses import replace
from fractions import Fraction

import pytest

from isthmus.partitioner.search import (
    ENERGY,
    LATENCY,
    ON_TIME,
    THROUGHPUT,
    Bottleneck,
    Constraints,
    DevicePower,
    Link,
    RawInput,
    SearchGraph,
    SearchNode,
    SearchProblem,
    SearchTensor,
    search,
)


def network(nodes, tensors) -> SearchGraph:
    """Nodes as (device, server, weights), tensors as name: (bytes, producer, consumers); unread is output."""
    return SearchGraph(
        nodes=tuple(
            SearchNode(key=f"n{i}", device_s=d, server_s=s, device_j=d, weight_bytes=w)
            for i, (d, s, w) in enumerate(nodes)
        ),
        tensors=tuple(
            SearchTensor(name=name, nbytes=size, producer=by, consumers=to, is_output=not to)
            for name, (size, by, to) in tensors.items()
        ),
    )


# image(100) -> n0 -> x(10) -> n1 -> y(40) -> n2 -> answer
LINE = network(
    [(4, 1, 5), (6, 1, 7), (20, 2, 9)],
    {"image": (100, None, (0,)), "x": (10, 0, (1,)), "y": (40, 1, (2,)), "answer": (1, 2, ())},
)
PROBLEM = SearchProblem(graph=LINE, link=Link.constant(10, 3))


@pytest.mark.parametrize("how", [{}, {"pareto": False, "most_sets": 0}])
def test_the_arithmetic_of_a_line(how) -> None:
    found = search(PROBLEM, [LATENCY, ENERGY, THROUGHPUT], **how)
    split = found.best["latency"].split
    assert (split.kind, split.frontier, split.device_nodes) == ("split", ("x",), (0,))
    # 4 on the device, 10 bytes at 10 a second, 3 of RTT, 1 + 2 on the server.
    assert (split.device_s, split.transfer_s, split.rtt_s, split.server_s) == (4, 1, 3, 3)
    assert found.best["latency"].value == split.latency_s == 11
    # The image stands in memory while x is made; then the image is done with.
    assert split.memory_bytes == 5 + 110
    assert split.on_time is None
    assert found.best["energy"].split.kind == "offload"
    assert found.best["throughput"].value == 4


def test_waiting_and_sending_take_energy() -> None:
    power = DevicePower(idle_w=2, transmit_w=5, joules_per_byte=Fraction(1, 10))
    energy = search(replace(PROBLEM, power=power), [ENERGY]).best["energy"]
    # Split at x: 4 J, 10 bytes of 0.1 J, 1 s of sending at 5 W, 1 + 3 + 3 s of waiting at 2 W.
    assert energy.value == 4 + 1 + 5 + 14
    assert energy.split.frontier == ("x",)


@pytest.mark.parametrize("most_sets", [0, 1000])
def test_the_rtt_is_paid_only_for_the_server(most_sets: int) -> None:
    far = replace(PROBLEM, link=Link.constant(10**6, 27))
    near = replace(PROBLEM, link=Link.constant(10**6, 25))
    assert search(far, [LATENCY], most_sets=most_sets, pareto=False).best["latency"].split.kind == "local"
    assert search(near, [LATENCY], most_sets=most_sets, pareto=False).best["latency"].split.kind == "offload"


@pytest.mark.parametrize("most_sets", [0, 1000])
def test_the_input_crosses_as_the_best_of_its_encodings(most_sets: int) -> None:
    ways = (
        RawInput(encoding="uint8", nbytes=60),
        RawInput(encoding="jpeg", nbytes=5, encode_s=1, decode_s=Fraction(1, 2)),
    )
    problem = replace(PROBLEM, raw={"image": ways}, link=Link.constant(10, 0))
    best = search(problem, [LATENCY], most_sets=most_sets, pareto=False).best["latency"]
    assert best.value == 1 + Fraction(1, 2) + Fraction(1, 2) + 4
    assert best.split.encodings == {"image": "jpeg"}
    private = replace(problem, constraints=Constraints(no_raw_input=True))
    best = search(private, [LATENCY], most_sets=most_sets, pareto=False).best["latency"]
    assert best.split.frontier == ("x",)


@pytest.mark.parametrize("most_sets", [0, 1000])
def test_a_tensor_with_two_readers_is_paid_for_once(most_sets: int) -> None:
    # A cut that paid for x twice (20) would rather run everything on the device (18).
    graph = network(
        [(1, 1, 0), (5, 1, 0), (5, 1, 0), (7, 1, 0)],
        {
            "image": (1000, None, (0,)),
            "x": (10, 0, (1, 2)),
            "a": (50, 1, (3,)),
            "b": (50, 2, (3,)),
            "answer": (1, 3, ()),
        },
    )
    problem = SearchProblem(graph=graph, link=Link.constant(1, 0))
    best = search(problem, [LATENCY], most_sets=most_sets, pareto=False).best["latency"]
    assert best.value == 1 + 10 + 3
    assert best.split.frontier == ("x",)


@pytest.mark.parametrize("most_sets", [0, 1000])
def test_nothing_comes_back_from_the_server(most_sets: int) -> None:
    # n1 is fast only on the server, n2 only on the device, behind it; n3 makes it one block.
    graph = network(
        [(1, 30, 0), (60, 1, 0), (1, 30, 0), (0, 0, 0)],
        {
            "image": (0, None, (0, 3)),
            "x": (1, 0, (1,)),
            "y": (0, 1, (2,)),
            "answer": (1, 2, ()),
            "side": (1, 3, ()),
        },
    )
    problem = SearchProblem(graph=graph, link=Link.constant(1, 0))
    best = search(problem, [LATENCY], most_sets=most_sets, pareto=False).best["latency"]
    assert best.value == 1 + 1 + 31
    assert not {1, 2} & set(best.split.device_nodes)


def test_a_link_of_two_rates() -> None:
    link = Link(rates=((Fraction(3, 4), 20), (Fraction(1, 4), 4)), rtt_s=1)
    problem = replace(PROBLEM, link=link, constraints=Constraints(deadline_s=10, deadline_probability=0.7))
    found = search(problem, [LATENCY, ON_TIME])
    # Offloading sends 100 bytes: 5 s or 25 s, 10 s in the mean. Split at x: 0.5 s or 2.5 s, 1 s in the mean.
    by_x = found.best["latency"]
    assert (by_x.value, by_x.split.frontier, by_x.split.on_time) == (9, ("x",), Fraction(3, 4))
    assert found.best["on-time"].value == Fraction(1, 4)
    # For certainty there is nothing: the slow rate is too slow, and the device takes 30 s.
    sure = replace(problem, constraints=Constraints(deadline_s=10, deadline_probability=1))
    found = search(sure, [LATENCY])
    assert (found.best["latency"].split, found.best["latency"].proven, found.pareto) == (None, True, ())


def test_a_dead_link_leaves_the_device() -> None:
    found = search(replace(PROBLEM, link=Link.constant(0, 0)))
    assert {best.split.kind for best in found.best.values()} == {"local"}
    assert [split.kind for split in found.pareto] == ["local"]


def test_memory_moves_the_cut() -> None:
    tight = replace(PROBLEM, constraints=Constraints(device_memory_bytes=114))
    best = search(tight, [LATENCY]).best["latency"]
    assert best.split.kind == "offload"
    assert best.value == 10 + 3 + 4
    # By cut alone the weights are priced, not what is live: the answer is the same, but there is a gap.
    best = search(tight, [LATENCY], pareto=False, most_sets=0).best["latency"]
    assert best.split.kind == "offload"
    assert not best.proven
    assert best.bound == 11
    assert best.how == "Lagrangian bound"


def test_a_bottleneck_competes_on_equal_terms() -> None:
    learned = Bottleneck(name="b", cut=frozenset(["y"]), encoder_s=2, decoder_s=1, nbytes=1, accuracy=0.9)
    problem = replace(PROBLEM, bottlenecks=(learned,), accuracy=1)
    found = search(problem, [LATENCY])
    best = found.best["latency"]
    # Its encoder replaces n0 and n1, its decoder restores y.
    assert best.value == pytest.approx(2 + 0.1 + 3 + 1 + 2)
    assert (best.split.kind, best.split.bottleneck, best.split.accuracy) == ("bottleneck", learned, 0.9)
    kept = search(replace(problem, bottlenecks=(replace(learned, keeps_head=True),)), [LATENCY])
    assert kept.best["latency"].split.frontier == ("x",)
    # It costs accuracy, so that it does not drive the plain split from the Pareto set.
    assert {split.kind for split in found.pareto} == {"bottleneck", "split", "offload", "local"}


@pytest.mark.parametrize("most_sets", [0, 1000])
def test_a_side_output_may_stay_on_either_side(most_sets: int) -> None:
    # A single-tensor cut lies behind n0, but n1 is an end of its own: slow on the device, it can wait.
    graph = network(
        [(1, 9, 0), (50, 1, 0), (1, 9, 0), (20, 1, 0)],
        {
            "image": (1000, None, (0,)),
            "x": (3, 0, (1, 2)),
            "side": (1, 1, ()),
            "y": (2, 2, (3,)),
            "answer": (1, 3, ()),
        },
    )
    problem = SearchProblem(graph=graph, link=Link.constant(1, 0))
    best = search(problem, [LATENCY], most_sets=most_sets, pareto=False).best["latency"]
    assert best.split.device_nodes == (0, 2)
    assert best.split.frontier == ("x", "y")
    assert best.value == 2 + 5 + 2
