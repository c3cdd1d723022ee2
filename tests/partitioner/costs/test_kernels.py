from isthmus.partitioner.costs.kernels import Kernel, share_kernels
from isthmus.partitioner.network.graph import FlowNode


def node(key: str, *reads: str) -> FlowNode:
    return FlowNode(key=key, op="Op", inputs=reads, outputs=(key,))


def kernel(makes: str, reads: str, seconds: float, stands_for: str | None = None) -> Kernel:
    known = makes if stands_for is None else stands_for
    return Kernel(
        makes=tuple(makes.split()),
        reads=tuple(reads.split()),
        stands_for=tuple(known.split()),
        seconds=seconds,
    )


def test_a_kernel_per_node_is_that_nodes_time() -> None:
    nodes = [node("a", "x"), node("b", "a")]
    shares = share_kernels(nodes, [kernel("a", "x", 3.0), kernel("b", "a", 1.0)], {"a": 9.0, "b": 9.0})
    assert shares == {"a": 3.0, "b": 1.0}


def test_a_fused_kernel_is_shared_like_the_unfused_times() -> None:
    nodes = [node("conv", "x"), node("relu", "conv"), node("y", "relu")]
    shares = share_kernels(
        nodes, [kernel("relu", "x", 4.0), kernel("y", "relu", 1.0)], {"conv": 9.0, "relu": 3.0, "y": 5.0}
    )
    assert shares == {"conv": 3.0, "relu": 1.0, "y": 1.0}


def test_layout_kernels_belong_to_the_tensor_they_lead_to() -> None:
    """x → reorder → blocked conv → reorder back → y, as on a CPU with a blocked layout."""
    nodes = [node("conv", "x"), node("y", "conv")]
    kernels = [
        kernel("r0", "x", 0.5, stands_for="r0"),
        kernel("r1", "r0", 4.0, stands_for="conv r1"),
        kernel("r2", "r1", 0.25, stands_for="r2"),
        kernel("y", "r2", 1.0),
    ]
    assert share_kernels(nodes, kernels, {}) == {"conv": 4.5, "y": 1.25}


def test_nodes_that_vanished_cost_nothing_of_their_own() -> None:
    """An identity that the optimiser removed shares its reader's kernel, in which it weighs nothing."""
    nodes = [node("a", "x"), node("identity", "a"), node("y", "identity")]
    shares = share_kernels(nodes, [kernel("a", "x", 2.0), kernel("y", "a", 3.0)], {"a": 1.0, "y": 1.0})
    assert shares == {"a": 2.0, "identity": 0.0, "y": 3.0}


def test_no_time_is_lost_or_invented_on_a_bypass() -> None:
    nodes = [node("a", "x"), node("b", "a"), node("c", "b"), node("sum", "c", "a"), node("y", "sum")]
    kernels = [
        kernel("a", "x", 1.0),
        kernel("b", "a", 2.0),
        kernel("sum", "b a", 4.0),
        kernel("y", "sum", 8.0),
    ]
    shares = share_kernels(nodes, kernels, {"c": 3.0, "sum": 1.0})
    assert shares == {"a": 1.0, "b": 2.0, "c": 3.0, "sum": 1.0, "y": 8.0}
