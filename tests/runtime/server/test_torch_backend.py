"""The torch backend on the CPU; on CUDA where there is one."""

import asyncio
import shutil
import threading

import msgspec
import numpy as np
import pytest

from isthmus.runtime.bundle import TAIL, TAIL_ATEN, Manifest, load_bundle, write_manifest
from isthmus.runtime.bundle.aten_graph import pack
from isthmus.runtime.bundle.networks import with_absent
from isthmus.runtime.errors import BundleError, GateError, InputError
from isthmus.runtime.server import ServerConfig
from isthmus.runtime.server.backends import open_backend
from isthmus.runtime.server.torch_backend import TorchBackend, golden_error
from isthmus.runtime.wire import latent_request, parse_answer, parse_stream_answer, payload_request

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")


def _write_tail(bundle, *, bias=0.0):
    """Write the tiny bundle's tail, cast, centre, scale, flatten, gemm, as operators."""
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(str(bundle / TAIL)).graph.initializer
    }
    tensors = [
        constants["zero_points"],
        constants["scale"],
        np.ascontiguousarray(constants["weights"].T),
        constants["bias"] + np.array([bias, 0, 0], np.float32),
    ]
    nodes = [
        ["aten.to.dtype", [{"node": -1}, {"dtype": "float32"}], {}],
        ["aten.sub.Tensor", [{"node": 0}, {"tensor": 0}], {}],
        ["aten.mul.Tensor", [{"node": 1}, {"tensor": 1}], {}],
        ["aten.flatten.using_ints", [{"node": 2}, 1], {}],
        ["aten.linear.default", [{"node": 3}, {"tensor": 2}, {"tensor": 3}], {}],
    ]
    (bundle / TAIL_ATEN).write_bytes(pack(nodes, 4, tensors))
    write_manifest(bundle, _manifest(bundle))
    return bundle


def _manifest(bundle):
    return msgspec.json.decode((bundle / "manifest.json").read_bytes(), type=Manifest)


@pytest.fixture(scope="module")
def torch_bundle(tiny_bundle, tmp_path_factory):
    return _write_tail(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("torch") / "tiny"))


def _config(bundle, **changes):
    return ServerConfig(
        **{"bundles": (bundle,), "backend": "torch", "provider": "cpu", "threads": 1, **changes}
    )


def test_it_answers_as_onnx_runtime_does(torch_bundle, samples):
    backend = open_backend(load_bundle(torch_bundle), _config(torch_bundle, max_batch=4))
    assert isinstance(backend, TorchBackend)
    assert backend.provider == "torch-cpu-fp32"
    assert sorted(rows for rows, _ in backend.warm_up) == [1, 2, 4]
    np.testing.assert_allclose(backend.run(samples.latents), samples.outputs, rtol=1e-4, atol=1e-4)
    for rows in (1, 3):
        np.testing.assert_allclose(
            backend.run(samples.latents[:rows]), samples.outputs[:rows], rtol=1e-4, atol=1e-4
        )
    assert golden_error(backend, load_bundle(torch_bundle)) < 1e-4


def test_a_lower_precision_is_served_when_the_golden_answers_hold(torch_bundle):
    backend = open_backend(load_bundle(torch_bundle), _config(torch_bundle, precision="bf16"))
    assert backend.provider == "torch-cpu-bf16"
    error = golden_error(backend, load_bundle(torch_bundle))
    assert 1e-5 < error < 3e-2, "bf16 must differ, or it was not used"


def test_answers_that_are_not_the_golden_ones_are_not_served(tiny_bundle, tmp_path):
    wrong = _write_tail(shutil.copytree(tiny_bundle, tmp_path / "wrong"), bias=0.5)
    with pytest.raises(
        GateError, match=r"in fp32 its answers differ from the golden ones by .* give --precision"
    ):
        open_backend(load_bundle(wrong), _config(wrong))


def test_a_bundle_without_a_torch_tail_is_one_line(tiny_bundle):
    with pytest.raises(BundleError) as refused:
        open_backend(load_bundle(tiny_bundle), _config(tiny_bundle))
    assert str(refused.value) == (
        f"{tiny_bundle / TAIL_ATEN}: the bundle has no tail for torch; export it with --torch"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_not_there_is_one_line(torch_bundle):
    with pytest.raises(InputError, match=r"^--provider cuda: torch finds no CUDA device here"):
        open_backend(load_bundle(torch_bundle), _config(torch_bundle, provider="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_captured_graphs_answer_every_batch_size(torch_bundle, samples, precision):
    config = _config(torch_bundle, provider="cuda", precision=precision, max_batch=4)
    backend = open_backend(load_bundle(torch_bundle), config)
    span = np.ptp(samples.outputs)
    for rows in (1, 2, 3, 4):
        error = np.abs(backend.run(samples.latents[:rows]) - samples.outputs[:rows]).max() / span
        assert error < 3e-2


async def test_a_server_serves_it(start_server, torch_bundle, samples):
    server = await start_server(torch_bundle, kind="torch")
    request = latent_request(model="tiny", frame_id="1", latent_nchw=samples.latents[:1], budget_us=None)
    answer = parse_answer(await server.stub.ModelInfer(request))
    np.testing.assert_allclose(answer.outputs_nc, samples.outputs[:1], rtol=1e-4, atol=1e-4)


class Held:
    """The torch backend, whose first batch is held until others have queued up behind it."""

    output, warm_up = "logits", ()

    def __init__(self, inner):
        self.inner, self.provider, self.max_batch = inner, inner.provider, inner.max_batch
        self.rows, self._passes, self.begun = [], threading.Semaphore(0), threading.Event()

    def run(self, latents_nchw):
        if not self.begun.is_set():
            self.begun.set()
            assert self._passes.acquire(timeout=20), "nobody let the first batch through"
        self.rows.append(len(latents_nchw))
        return self.inner.run(latents_nchw)

    def let(self, batches=1):
        self._passes.release()


async def test_frames_of_several_channel_counts_are_batched_and_each_gets_its_own_answer(
    start_server, torch_bundle, samples
):
    """Payloads from the wire are decoded, filled up, batched and computed by torch as ONNX Runtime would."""
    bundle = load_bundle(torch_bundle)
    tail = open_backend(bundle, _config(torch_bundle, backend="onnxruntime"))
    held = Held(open_backend(bundle, _config(torch_bundle, max_batch=8)))
    server = await start_server(torch_bundle, backend=held)
    batcher = server.server._service.model("tiny").batcher
    frames = [(number % len(samples.latents), number // 4 % 4 + 1) for number in range(24)]
    call = server.stub.ModelStreamInfer()

    async def send(number, index, channels):
        payload = samples.payload(index, channels)
        await call.write(
            payload_request(model="tiny", frame_id=str(number), payloads=[payload], budget_us=None)
        )

    async def queued(rows):
        while batcher.queued < rows:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    await send(0, *frames[0])
    assert await asyncio.to_thread(held.begun.wait, 20)
    for number, (index, channels) in enumerate(frames[1:], 1):
        await send(number, index, channels)
    await asyncio.wait_for(queued(len(frames) - 1), 20)
    held.let()
    answers = {}
    while len(answers) < len(frames):
        answer = parse_stream_answer(await call.read())
        answers[int(answer.frame_id)] = answer.outputs_nc
    call.cancel()
    assert held.rows == [1, 8, 8, 7]
    zero_points = bundle.manifest.latent.zero_points
    for number, (index, channels) in enumerate(frames):
        expected = tail.run(with_absent(samples.latents[index][None], channels, zero_points))
        np.testing.assert_allclose(answers[number], expected, rtol=1e-4, atol=1e-4)
    assert len({tuple(scores[0].round(3)) for scores in answers.values()}) > len(samples.latents)
