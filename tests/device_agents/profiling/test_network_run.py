"""A plain ONNX file on this device."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isthmus.device_agents.profiling.measuring import Extent
from isthmus.device_agents.profiling.network_run import PlainNetwork, profile_network_file
from isthmus.device_agents.profiling.scenarios import Load
from isthmus.runtime.errors import InputError


@pytest.fixture
def onnx_file(tmp_path):
    """Return `make(kind, shape)`: a file that multiplies floats, or picks rows by indices."""

    def make(kind=TensorProto.FLOAT, shape=("n", 8)):
        table = numpy_helper.from_array(np.ones((8, 3), np.float32), "table")
        operator = "MatMul" if kind == TensorProto.FLOAT else "Gather"
        inputs = ["x", "table"] if operator == "MatMul" else ["table", "x"]
        graph = helper.make_graph(
            [helper.make_node(operator, inputs, ["y"])],
            "plain",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [table],
        )
        path = tmp_path / "plain.onnx"
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        path.write_bytes(model.SerializeToString())
        return path

    return make


async def test_a_network_is_profiled_whole(onnx_file):
    network = PlainNetwork(onnx_file())
    assert network.provider == "CPUExecutionProvider"
    profile = await profile_network_file(
        network,
        [Load(scenario="SingleStream"), Load(scenario="Server", rate_per_s=200.0)],
        extent=Extent(warm_up_s=0.2, least_s=0.2, most_s=10.0),
    )
    assert [one.scenario for one in profile.figures] == ["SingleStream", "Server"]
    for one in profile.figures:
        assert one.way.kind == "network"
        assert list(one.parts) == ["tail", "rest"]
        assert one.payload_bytes is None
        assert one.frames >= 100
    assert profile.figures[1].rate_per_s == 200.0
    assert profile.offset is None


def test_indices_are_within_any_table(onnx_file):
    PlainNetwork(onnx_file(TensorProto.INT64, (1, 4))).compute(0)


def test_sizes_of_symbolic_dimensions(onnx_file):
    assert PlainNetwork(onnx_file(), sizes={"n": 5}).compute(0).answer_s > 0
    with pytest.raises(InputError, match=r"does not run on random inputs.*--dim NAME=N"):
        PlainNetwork(onnx_file(shape=(1, "k")))
    PlainNetwork(onnx_file(shape=(1, "k")), sizes={"k": 8})


def test_what_cannot_be_run_is_one_line(onnx_file, tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx: no such file; give a bundle's directory"):
        PlainNetwork(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(InputError, match=r"broken\.onnx: ONNX Runtime cannot run it"):
        PlainNetwork(broken)
    with pytest.raises(InputError, match=r"provider cuda"):
        PlainNetwork(onnx_file(), provider="cuda")
    model = onnx.load(onnx_file())
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    model.graph.node[0].op_type = "Identity"
    del model.graph.node[0].input[1]
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    path = tmp_path / "text.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"input 'x' is tensor\(string\)"):
        PlainNetwork(path)
