"""Weights beside the model: found, checked, never followed out of the folder, copied into halves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.cutting.cut import extract_halves, write_halves
from isthmus.partitioner.cutting.parity import check_parity
from isthmus.partitioner.network.model import load_network
from isthmus.partitioner.network.weights import is_external, outline, tensor_bytes
from isthmus.partitioner.network.work import node_work
from isthmus.partitioner.running.execution import open_session, run, session_options
from isthmus.runtime.errors import InputError

Make = Callable[..., ModelProto]
SIDE = 160


def dense_model(make: Make, layers: int = 3) -> ModelProto:
    """A chain of dense layers whose weights are too large to be brought in."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for index in range(layers):
        values = (rng.standard_normal((SIDE, SIDE)) / np.sqrt(SIDE)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{index}"))
        source = f"t{index}"
        nodes.append(helper.make_node("MatMul", [source, f"w{index}"], [f"m{index}"]))
        nodes.append(helper.make_node("Tanh", [f"m{index}"], [f"t{index + 1}"]))
    ends = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", SIDE]) for name in ("t0", f"t{layers}")
    )
    first, last = ends
    return make(nodes, [first], [last], weights)


@pytest.fixture
def beside(make_onnx: Make, tmp_path: Path) -> Path:
    """Return a model file whose weights are in `m.data` beside it."""
    path = tmp_path / "in" / "m.onnx"
    path.parent.mkdir()
    onnx.save(dense_model(make_onnx), path, save_as_external_data=True, location="m.data", size_threshold=0)
    return path


def relocate(path: Path, **entries: str | None) -> None:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        kept = {entry.key: entry.value for entry in tensor.external_data}
        del tensor.external_data[:]
        for key, text in {**kept, **entries}.items():
            if text is not None:
                tensor.external_data.add(key=key, value=text)
    path.write_bytes(model.SerializeToString())


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: external data of 'w0'")


def test_weights_stay_in_their_file(beside: Path, make_onnx: Make, tmp_path: Path) -> None:
    network = load_network(beside)
    assert network.proto.ByteSize() < 4096
    assert all(is_external(tensor) for tensor in network.proto.graph.initializer)
    inside = tmp_path / "inside.onnx"
    onnx.save(dense_model(make_onnx), inside)
    plain = load_network(inside)
    assert network.graph == plain.graph
    assert node_work(network) == node_work(plain)
    for cut in network.graph.interior_cuts():
        halves = extract_halves(network, [cut.tensor])
        assert check_parity(network, halves).max_rel_diff <= 1e-6


def test_halves_of_it_are_whole_files_where_they_fit(beside: Path, tmp_path: Path) -> None:
    network = load_network(beside)
    halves = extract_halves(network, ["t2"])
    for path, count in zip(write_halves(halves, tmp_path / "out"), (2, 1), strict=True):
        half = onnx.load(path, load_external_data=False)
        assert [is_external(tensor) for tensor in half.graph.initializer] == [False] * count
        onnx.checker.check_model(path, full_check=True)
    assert sorted(file.name for file in (tmp_path / "out" / "t2").iterdir()) == ["head.onnx", "tail.onnx"]


@pytest.mark.parametrize("external", [True, False])
def test_halves_above_the_limit_keep_weights_beside(
    beside: Path, make_onnx: Make, tmp_path: Path, external: bool
) -> None:
    """Whether the weights come from a file or from inside the model."""
    if not external:
        beside = tmp_path / "inside.onnx"
        onnx.save(dense_model(make_onnx), beside)
    network = load_network(beside)
    halves = extract_halves(network, ["t2"])
    paths = write_halves(halves, tmp_path / "out", largest_bytes=150_000)
    # The head has two layers and exceeds the limit; the tail has one and does not.
    assert [path.with_name(path.name + ".data").exists() for path in paths] == [True, False]
    x = np.random.default_rng(1).standard_normal((2, SIDE)).astype(np.float32)
    feed = {"t0": x}
    for path in paths:
        onnx.checker.check_model(path, full_check=True)
        half = onnx.load(path, load_external_data=False)
        for tensor in half.graph.initializer:
            if is_external(tensor):
                assert int(tensor.external_data[1].value) % 4096 == 0
        feed |= run(open_session(half, "half", session_options(1), folder=path.parent), feed, "half")
    whole = open_session(network.original, "whole", session_options(1), folder=network.folder)
    np.testing.assert_allclose(feed["t3"], run(whole, feed, "whole")["t3"], rtol=1e-5)
    # Written again below the limit, the file of weights is gone.
    write_halves(halves, tmp_path / "out")
    assert not paths[0].with_name("head.onnx.data").exists()


def test_a_missing_file_is_named(beside: Path) -> None:
    beside.with_name("m.data").unlink()
    assert refused(beside) == ": no file 'm.data'; keep external data beside the model"


def test_a_file_cut_short_is_named(beside: Path) -> None:
    data = beside.with_name("m.data")
    size = data.stat().st_size
    with data.open("r+b") as file:
        file.truncate(1000)
    assert refused(beside) == (
        f": 'm.data' has 1,000 bytes, it needs {size // 3:,}; the file is cut short, copy it again"
    )


@pytest.mark.parametrize("location", ["../m.data", "/etc/passwd", "sub/../../m.data", ""])
def test_a_location_outside_the_folder_is_refused(beside: Path, location: str) -> None:
    beside.parent.parent.joinpath("m.data").write_bytes(beside.with_name("m.data").read_bytes())
    relocate(beside, location=location)
    assert refused(beside) == (f" is at {location!r}, outside the model's folder; keep it beside the model")


def test_a_link_out_of_the_folder_is_refused(beside: Path) -> None:
    data = beside.with_name("m.data")
    data.rename(beside.parent.parent / "elsewhere.data")
    data.symlink_to(beside.parent.parent / "elsewhere.data")
    assert "outside the model's folder" in refused(beside)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "a"}, " has an offset or length that is no number; export it again"),
        ({"length": "8"}, f": 8 bytes at 0 for a tensor that takes {4 * SIDE * SIDE}; export it again"),
        (
            {"offset": "-4"},
            f": {4 * SIDE * SIDE} bytes at -4 for a tensor that takes {4 * SIDE * SIDE}; export it again",
        ),
    ],
)
def test_references_that_make_no_sense(beside: Path, entries: dict[str, str], message: str) -> None:
    relocate(beside, **entries)
    assert refused(beside) == message


def test_a_reference_without_length_takes_what_its_shape_says(beside: Path) -> None:
    relocate(beside, length=None)
    network = load_network(beside)
    assert check_parity(network, extract_halves(network, ["t1"])).max_rel_diff <= 1e-6


def test_bytes_of_types_below_a_byte() -> None:
    assert tensor_bytes((3,), TensorProto.INT4) == 2
    assert tensor_bytes((2, 3), TensorProto.UINT4) == 3
    assert tensor_bytes((3,), TensorProto.FLOAT4E2M1) == 2
    assert tensor_bytes((3,), TensorProto.FLOAT8E4M3FN) == 3
    assert tensor_bytes((3,), TensorProto.BFLOAT16) == 6
    assert tensor_bytes((), TensorProto.DOUBLE) == 8
    assert tensor_bytes((3,), TensorProto.STRING) is None


def test_an_outline_leaves_large_weights_out(make_onnx: Make) -> None:
    model = dense_model(make_onnx)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "small"))
    found = outline(model)
    assert [tensor.name for tensor in found.graph.initializer] == ["small"]
    assert [entry.name for entry in found.graph.input] == ["t0", "w0", "w1", "w2"]
    assert list(found.graph.node) == list(model.graph.node)
    assert len(model.graph.initializer) == 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_network_above_two_gibibytes(make_onnx: Make, tmp_path: Path) -> None:
    """Three weights of 0.8 GB: the whole and the head exceed what one protobuf message holds."""
    side = 14_200
    model = make_onnx(
        [
            helper.make_node("MatMul", [f"t{index}", f"w{index}"], [f"t{index + 1}"], f"layer{index}")
            for index in range(4)
        ],
        [helper.make_tensor_value_info("t0", TensorProto.FLOAT, ["n", side])],
        [helper.make_tensor_value_info("t4", TensorProto.FLOAT, ["n", side])],
    )
    nbytes, rng = 4 * side * side, np.random.default_rng(0)
    with (tmp_path / "big.data").open("wb") as data:
        for index in range(4):
            # Sparse on the disk: a few rows are enough for an answer that depends on all layers.
            tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[side, side])
            tensor.data_location = TensorProto.EXTERNAL
            offset = index * nbytes
            for key, text in (("location", "big.data"), ("offset", offset), ("length", nbytes)):
                tensor.external_data.add(key=key, value=str(text))
            model.graph.initializer.append(tensor)
            for row in (0, 1, 2, side - 1):
                data.seek(offset + 4 * side * row)
                data.write(rng.standard_normal(side).astype(np.float32).tobytes())
        data.truncate(4 * nbytes)
    path = tmp_path / "big.onnx"
    path.write_bytes(model.SerializeToString())
    network = load_network(path)
    assert sum(item.weight_bytes for item in node_work(network).values()) == 4 * nbytes > 1 << 31
    halves = extract_halves(network, ["t3"])
    head, tail = write_halves(halves, tmp_path / "out")
    (tmp_path / "big.data").rename(tmp_path / "gone.data")  # the halves stand on their own
    assert head.with_name("head.onnx.data").stat().st_size >= 3 * nbytes > 1 << 31
    assert tail.stat().st_size > nbytes
    x = {"t0": rng.standard_normal((1, side)).astype(np.float32)}
    made = run(_open(head), x, "head")
    answer = run(_open(tail), made, "tail")["t4"]
    del made
    (tmp_path / "gone.data").rename(tmp_path / "big.data")
    whole = open_session(network.original, "whole", session_options(1), folder=network.folder)
    expected = run(whole, x, "whole")["t4"]
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))


def _open(path: Path):
    half = onnx.load(path, load_external_data=False)
    return open_session(half, path.name, session_options(1), folder=path.parent)
