"""The file of a torch tail is data: whatever else it names is refused in one line."""

import io
import json
import pickle

import numpy as np
import pytest

from isthmus.runtime.bundle.aten_graph import build, pack
from isthmus.runtime.errors import BundleError

torch = pytest.importorskip("torch")

INPUT = {"node": -1}
FLOAT = ["aten.to.dtype", [INPUT, {"dtype": "float32"}], {}]


def _build(nodes, output=-1, tensors=(), precision="float32"):
    data = pack(nodes, output, [np.asarray(tensor) for tensor in tensors])
    return build(data, where="tail.aten.npz", device="cpu", precision=precision)


def test_a_graph_computes_what_it_says():
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    module = _build(
        [
            FLOAT,
            ["aten.flatten.using_ints", [{"node": 0}, 1], {}],
            ["aten.linear.default", [{"node": 1}, {"tensor": 0}], {}],
        ],
        tensors=[weights],
    )
    latents = torch.tensor([[[[1, 2, 3]]], [[[0, 0, 1]]]], dtype=torch.uint8)
    assert module(latents).tolist() == [[8.0, 26.0], [2.0, 5.0]]


def test_sizes_of_the_batch_are_computed_when_it_runs():
    module = _build(
        [
            FLOAT,
            ["aten.sym_size.int", [INPUT, 0], {}],
            ["python.mul", [{"node": 1}, 2], {}],
            ["aten.view.default", [{"node": 0}, [{"node": 2}, -1]], {}],
        ],
        output=3,
    )
    assert module(torch.zeros(3, 4, 1, 1, dtype=torch.uint8)).shape == (6, 2)
    assert module(torch.zeros(5, 4, 1, 1, dtype=torch.uint8)).shape == (10, 2)


def test_the_precision_replaces_every_floating_type():
    module = _build(
        [FLOAT, ["aten.mul.Tensor", [{"node": 0}, {"tensor": 0}], {}]],
        tensors=[np.float32(0.5)],
        precision="bfloat16",
    )
    assert module(torch.ones(1, 1, 1, 1, dtype=torch.uint8)).dtype is torch.bfloat16


@pytest.mark.parametrize(
    "node",
    [
        ["torch.load", ["x"], {}],
        ["os.system", ["true"], {}],
        ["python.eval", ["1"], {}],
        ["python.__import__", ["os"], {}],
        ["aten.__class__.default", [INPUT], {}],
        ["aten.relu.op", [INPUT], {}],
        ["aten.relu.__init__", [INPUT], {}],
        # An operator of ATen that maps a file into memory.
        ["aten.from_file.default", ["/etc/hostname", False, 4], {}],
        ["aten.relu.default", [{"node": 7}], {}],
        ["aten.relu.default", [{"node": -2}], {}],
        ["aten.relu.default", [{"tensor": 3}], {}],
        ["aten.to.dtype", [INPUT, {"dtype": "__class__"}], {}],
        ["aten.relu.default", [{"module": "os"}], {}],
        ["aten.relu.default", [{}], {}],
        "aten.relu.default",
    ],
)
def test_what_is_no_operator_on_tensors_is_refused(node):
    with pytest.raises(BundleError, match=r"^tail\.aten\.npz: not a graph of ATen operators \(.*\); export"):
        _build([node])


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_nothing_is_unpickled():
    buffer = io.BytesIO()
    graph = np.frombuffer(json.dumps({"version": 1, "nodes": [], "output": -1}).encode(), np.uint8)
    np.savez(buffer, graph=graph, t0=np.array([_Evil()], dtype=object))
    with pytest.raises(BundleError, match="not a graph of ATen operators"):
        build(buffer.getvalue(), where="tail.aten.npz", device="cpu")
    with pytest.raises(BundleError, match="not a graph of ATen operators"):
        build(pickle.dumps(_Evil()), where="tail.aten.npz", device="cpu")


def test_another_version_is_named():
    buffer = io.BytesIO()
    np.savez(buffer, graph=np.frombuffer(b'{"version": 2}', np.uint8))
    with pytest.raises(BundleError) as refused:
        build(buffer.getvalue(), where="t", device="cpu")
    assert str(refused.value) == "t: version 2, this Isthmus reads 1"
