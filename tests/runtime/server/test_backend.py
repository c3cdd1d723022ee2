import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from isthmus.runtime.bundle import TAIL, LatentSpec, load_bundle
from isthmus.runtime.errors import BackendError, BundleError
from isthmus.runtime.server.backend import OnnxRuntimeBackend, warm_up_sizes

SPEC = LatentSpec(channels=4, height=4, width=4, zero_points=(60, 128, 120, 100))
CPU = ("CPUExecutionProvider",)


def _open(tail, available=CPU, **changes):
    arguments = {"latent": SPEC, "classes": 3, "threads": 1, "max_batch": 8, "where": "tail.onnx", **changes}
    return OnnxRuntimeBackend(tail, available=available, **arguments)


@pytest.fixture
def tail(tiny_bundle):
    return load_bundle(tiny_bundle).read(TAIL)


def test_the_cpu_backend_computes_the_golden_outputs_in_any_batch(tail, samples):
    backend = _open(tail)
    assert (backend.provider, backend.output) == ("CPUExecutionProvider", "logits")
    for size in range(1, len(samples.latents) + 1):
        np.testing.assert_allclose(
            backend.run(samples.latents[:size]), samples.outputs[:size], rtol=1e-4, atol=1e-5
        )


def test_the_log_names_the_provider(tail, caplog):
    with caplog.at_level(logging.INFO, "isthmus.server"):
        _open(tail)
    assert "tail.onnx: CPUExecutionProvider, warm in" in caplog.text


def test_a_provider_that_does_not_load_is_passed_over(tail, caplog):
    # This ONNX Runtime has no CUDA, so asking for it fails as it does on a host without the driver.
    backend = _open(tail, available=("CPUExecutionProvider", "CUDAExecutionProvider"))
    assert backend.provider == "CPUExecutionProvider"


def test_a_gpu_sees_only_warm_batch_sizes(tail, samples):
    backend = _open(tail)
    seen = []
    session = backend._session

    class Watched:
        def run(self, names, feeds):
            seen.append(len(feeds["latent"]))
            return session.run(names, feeds)

    backend._session = Watched()
    backend.run(samples.latents[:3])
    backend.provider = "CUDAExecutionProvider"
    padded = backend.run(samples.latents[:3])
    assert seen == [3, 4]
    np.testing.assert_allclose(padded, samples.outputs[:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))]
)
def test_the_sizes_that_are_warmed_up(largest, sizes):
    assert warm_up_sizes(largest) == sizes


def _model(input_form, output_form, node=("Identity", {})):
    graph = helper.make_graph(
        [helper.make_node(node[0], ["x"], ["y"], **node[1])],
        "g",
        [helper.make_tensor_value_info("x", *input_form)],
        [helper.make_tensor_value_info("y", *output_form)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT
FULL = ["n", 4, 4, 4]
CAST = ("Cast", {"to": FLOAT})
TAKES = "not one uint8 [n, 4, 4, 4] as manifest.json says; export the bundle again"
GIVES = "not one float [n, 3] as manifest.json says; export the bundle again"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            _model((FLOAT, FULL), (FLOAT, FULL)),
            f"tail.onnx: takes x tensor(float) ['n', 4, 4, 4], {TAKES}",
        ),
        (
            _model((UINT8, ["n", 8, 4, 4]), (FLOAT, ["n", 8, 4, 4]), CAST),
            f"tail.onnx: takes x tensor(uint8) ['n', 8, 4, 4], {TAKES}",
        ),
        (
            _model((UINT8, [1, 4, 4, 4]), (FLOAT, [1, 4, 4, 4]), CAST),
            f"tail.onnx: takes x tensor(uint8) [1, 4, 4, 4], {TAKES}",
        ),
        (
            _model((UINT8, FULL), (FLOAT, FULL), CAST),
            f"tail.onnx: gives y tensor(float) ['n', 4, 4, 4], {GIVES}",
        ),
        (
            _model((UINT8, FULL), (UINT8, FULL)),
            f"tail.onnx: gives y tensor(uint8) ['n', 4, 4, 4], {GIVES}",
        ),
    ],
)
def test_a_tail_that_does_not_fit_its_manifest_is_refused(model, message):
    with pytest.raises(BundleError) as refused:
        _open(model)
    assert str(refused.value) == message


def test_what_is_no_model_is_refused():
    with pytest.raises(BundleError, match=r"^tail\.onnx: ONNX Runtime cannot run it: "):
        _open(b"not a model")


def test_a_batch_that_fails_is_a_backend_error(tail):
    backend = _open(tail)
    with pytest.raises(BackendError, match=r"^the tail failed on a batch of 1: "):
        backend.run(np.zeros((1, 4, 9, 9), np.uint8))


def test_a_tail_that_fails_its_warm_up_is_refused():
    # The shapes are declared as they must be, but a batch of more than one cannot be reshaped.
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [-1, 3])
    cast = helper.make_node("Cast", ["x"], ["f"], to=FLOAT)
    graph = helper.make_graph(
        [cast, helper.make_node("Reshape", ["f", "s"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", UINT8, FULL)],
        [helper.make_tensor_value_info("y", FLOAT, ["n", 3])],
        [shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    with pytest.raises(BundleError, match=r"^tail\.onnx: "):
        _open(model.SerializeToString())
