import math

import pytest

from isthmus.partitioner.search import (
    LATENCY,
    ON_TIME,
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
    search,
)
from isthmus.runtime.errors import InputError, PlanError


def node(key: str = "a", **changes) -> SearchNode:
    return SearchNode(**{"key": key, "device_s": 1, "server_s": 1, **changes})


def tensor(name: str, producer: int | None, *consumers: int, **changes) -> SearchTensor:
    return SearchTensor(
        **{"name": name, "nbytes": 1, "producer": producer, "consumers": consumers, **changes}
    )


LINE = SearchGraph(
    nodes=(node("a"), node("b")),
    tensors=(tensor("image", None, 0), tensor("x", 0, 1), tensor("y", 1, is_output=True)),
)


def problem(**changes) -> SearchProblem:
    return SearchProblem(**{"graph": LINE, "link": Link.constant(1, 0), **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: node(device_s=-1), "node 'a': device_s -1 is not a finite number of at least 0"),
        (lambda: node(server_s=math.nan), "node 'a': server_s nan is not a finite number of at least 0"),
        (lambda: node(device_j=math.inf), "node 'a': device_j inf is not a finite number of at least 0"),
        (lambda: node(pin="gpu"), "node 'a': pin 'gpu' is no machine; give 'device', 'server' or None"),
        (lambda: tensor("x", 0, nbytes=-4), "tensor 'x': nbytes -4 is not a finite number of at least 0"),
        (lambda: Link.constant(-1, 0), "link: rate_bytes_per_s -1 is not a finite number of at least 0"),
        (lambda: Link.constant(1, math.nan), "link: rtt_s nan is not a finite number of at least 0"),
        (
            lambda: Link(rates=((0.5, 1), (0.25, 2)), rtt_s=0),
            "link: the probabilities of its rates sum to 0.75, not to 1",
        ),
        (lambda: DevicePower(idle_w=-1), "device power: idle_w -1 is not a finite number of at least 0"),
        (
            lambda: RawInput(encoding="uint8", nbytes=1, encode_s=math.nan),
            "input sent as 'uint8': encode_s nan is not a finite number of at least 0",
        ),
        (
            lambda: Objective(kind="weighted", alpha=0, beta=0),
            "objective: alpha and beta are both 0, every split would be as good; raise one",
        ),
        (lambda: Constraints(deadline_s=0), "constraint: deadline 0 s is not above 0"),
        (
            lambda: Constraints(deadline_probability=0),
            "constraint: deadline_probability 0 is not in (0, 1]",
        ),
        (
            lambda: search(problem(), [ON_TIME]),
            "objective 'on-time' needs a deadline; give one",
        ),
        (
            lambda: search(problem(), [], pareto=False),
            "nothing to search for: no objective and no Pareto set; give an objective",
        ),
        (lambda: problem(raw={"image": ()}), "raw input 'image' has no way to be sent; give at least one"),
    ],
)
def test_numbers_that_make_no_sense(make, message: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SearchGraph(nodes=(), tensors=()), "the graph has no node; there is nothing to split"),
        (
            lambda: SearchGraph(nodes=(node("a"), node("a")), tensors=()),
            "two nodes are called 'a'; give each its own name",
        ),
        (
            lambda: SearchGraph(nodes=(node(),), tensors=(tensor("x", None, 0), tensor("x", 0))),
            "two tensors are called 'x'; give each its own name",
        ),
        (
            lambda: SearchGraph(nodes=(node(),), tensors=(tensor("x", 0, 1),)),
            "tensor 'x' refers to node 1, but there are 1; number nodes from 0",
        ),
        (
            lambda: SearchGraph(
                nodes=(node("a"), node("b"), node("c")), tensors=(tensor("x", 1, 2), tensor("y", 2, 1))
            ),
            "the graph is cyclic: node 'b' waits for itself; break the cycle",
        ),
        (
            lambda: SearchGraph(nodes=(node("a"),), tensors=(tensor("x", 0, 0),)),
            "the graph is cyclic: node 'a' waits for itself; break the cycle",
        ),
        (
            lambda: SearchGraph(nodes=(node("a"), node("b")), tensors=(tensor("x", 1, 0),)),
            "node 'a' reads 'x' before it is made; sort the nodes topologically",
        ),
        (lambda: tensor("x", None, 0, 0), "tensor 'x' lists a consumer twice; list each once"),
        (lambda: problem(raw={"x": ()}), "raw input 'x' is no input of the network"),
        (
            lambda: problem(constraints=Constraints(allowed_cuts=frozenset([frozenset(["z"])]))),
            "allowed cut: no tensor 'z' in the graph",
        ),
        (
            lambda: problem(bottlenecks=(bottleneck("q"),)),
            "bottleneck 'learned': no tensor 'q' in the graph",
        ),
        (lambda: bottleneck(), "bottleneck 'learned': its cut is empty; name the tensors that cross there"),
        (
            lambda: search(problem(bottlenecks=(bottleneck("y"),)), [LATENCY]),
            "bottleneck 'learned': 'y' does not cross; give the full cut",
        ),
        (
            lambda: search(problem(graph=BRANCHED, bottlenecks=(bottleneck("x"),)), [LATENCY]),
            "bottleneck 'learned': 'image' crosses there too; give the full cut",
        ),
    ],
)
def test_graphs_and_names_that_do_not_fit(make, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        make()
    assert str(caught.value) == message


BRANCHED = SearchGraph(
    nodes=(node("a"), node("b")),
    tensors=(tensor("image", None, 0, 1), tensor("x", 0, 1), tensor("y", 1, is_output=True)),
)


def bottleneck(*cut: str) -> Bottleneck:
    return Bottleneck(name="learned", cut=frozenset(cut), encoder_s=0, decoder_s=0, nbytes=1)
