import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.partitioner.costs.speeds import fit_speeds
from isthmus.runtime.machines import NetworkCosts, Operator, OperatorSpeed, OperatorWork

Node = tuple[Operator, float, int, float]


def costs(*nodes: Node, model: str = "net.onnx") -> NetworkCosts:
    """Costs of nodes given as class, operations, bytes and seconds."""
    return NetworkCosts(
        host="",
        backend="",
        clock="cpu",
        threads=1,
        rounds=1,
        whole_s=sum(node[3] for node in nodes),
        whole_spread_s=0.0,
        kernel_sum_s=0.0,
        node_s={f"n{index}": node[3] for index, node in enumerate(nodes)},
        work={
            f"n{index}": OperatorWork(operator=node[0], flops=node[1], nbytes=node[2])
            for index, node in enumerate(nodes)
        },
        model=model,
    )


def made_by(operator: Operator, node_s: float, flop_s: float, byte_s: float) -> list[Node]:
    """Nodes of a machine that obeys the model exactly; no two terms grow together."""
    work = [(1e6, 1000), (8e6, 50_000), (2e6, 900_000), (9e7, 20_000), (3e5, 400_000), (5e7, 700_000)]
    return [(operator, flops, nbytes, node_s + flops * flop_s + nbytes * byte_s) for flops, nbytes in work]


def by_class(*networks: NetworkCosts) -> dict[str, OperatorSpeed]:
    return {speed.operator: speed for speed in fit_speeds(networks)}


def test_a_machine_that_obeys_the_model_is_found_exactly() -> None:
    speed = by_class(costs(*made_by("conv", 2e-6, 1e-11, 1e-10)))["conv"]
    assert speed.overhead_s == pytest.approx(2e-6)
    assert speed.flops_per_s == pytest.approx(1e11)
    assert speed.bytes_per_s == pytest.approx(1e10)
    assert speed.source == "measured"
    assert speed.origin == "fitted to 6 nodes of net.onnx; sum of absolute errors 0% of their time"


def test_what_does_not_show_has_no_rate() -> None:
    speed = by_class(costs(*made_by("elementwise", 0.0, 0.0, 1e-10)))["elementwise"]
    assert (speed.flops_per_s, speed.overhead_s) == (None, 0.0)
    assert speed.bytes_per_s == pytest.approx(1e10)


def test_networks_share_one_fit() -> None:
    first, second = costs(*made_by("conv", 0, 1e-11, 0)), costs(*made_by("conv", 0, 3e-11, 0), model="b.onnx")
    speed = by_class(first, second)["conv"]
    assert speed.flops_per_s == pytest.approx(5e10)
    assert "fitted to 12 nodes of net.onnx, b.onnx" in speed.origin


def test_buffers_that_are_only_renamed_do_not_enter() -> None:
    assert fit_speeds([costs(("other", 0, 0, 1e-6))]) == ()


def test_one_classifier_waits_for_its_weights() -> None:
    """2 operations for each weight of 4 bytes: its rate is that of memory, its arithmetic that of others."""
    nodes = [*made_by("conv", 1e-6, 1e-11, 1e-10), ("matmul", 4e6, 8_000_000, 1e-3)]
    speed = by_class(costs(*nodes))["matmul"]
    assert speed.bytes_per_s == pytest.approx(8e6 / (1e-3 - 1e-6), rel=1e-6)
    assert speed.flops_per_s == pytest.approx(1e11)
    assert "fitted to 1 node of" in speed.origin
    assert "arithmetic as of 'conv'" in speed.origin


def test_a_node_as_short_as_an_overhead_tells_no_rate() -> None:
    """A classifier of 640 weights in a microsecond does not show a memory of 2.6 GB/s."""
    nodes = [*made_by("conv", 1e-6, 1e-11, 1e-10), ("matmul", 1280, 2600, 1e-6)]
    speed = by_class(costs(*nodes))["matmul"]
    assert (speed.bytes_per_s, speed.overhead_s) == (None, pytest.approx(1e-6))


def test_a_class_that_takes_no_time_is_no_error() -> None:
    speed = by_class(costs(("pool", 1e3, 1000, 0.0), ("conv", 1e6, 1000, 1e-3)))["pool"]
    assert speed.seconds(1e9, 10**9) == 0.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["conv", "matmul", "norm"]),
            st.floats(1e3, 1e9),
            st.integers(1000, 10**8),
            st.floats(1e-7, 1.0),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_network_predicts_its_own_sum(nodes: list[Node]) -> None:
    """Class by class, except where arithmetic was lent: that only adds."""
    table = costs(*nodes)
    for operator, speed in by_class(table).items():
        mine = [node for node in nodes if node[0] == operator]
        predicted = sum(speed.seconds(node[1], node[2]) for node in mine)
        measured = sum(node[3] for node in mine)
        if "arithmetic as of" in speed.origin:
            assert predicted >= measured * (1 - 1e-6)
        else:
            assert predicted == pytest.approx(measured, rel=1e-6)
