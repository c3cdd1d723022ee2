"""Change the encoder's width: between warm sessions (the width bank), against loading a session anew.

Options:
    bundle: A bundle directory whose heads are measured. Without it, two synthetic encoders are made with
        `onnx` (no torch): `synthetic_32`, four convolutions on 32x32 images, and `synthetic_224`, on 224x224;
        their weights are drawn, their times are those of any network of that shape.
    threads: ONNX Runtime threads of a session.

What is timed, per width, each once a round, in turn:

- `stay`: an inference whose predecessor ran the same width.
- `switch`: an inference whose predecessor ran another width; both widths are warm in the bank.
- `reload`: build a session from the file's verified bytes and run it once: what a device without a bank would
do when
  it changes widths. `reload_uncached` first asks the kernel to drop the file from its cache, as after a
  reboot; on a container's file system the kernel may keep it.

`switch_cost_s` is the median of the paired differences switch − stay of the same round and width.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from isthmus.device_agents.bank import WidthBank, session_options
from isthmus.runtime.bundle import (
    Bundle,
    InputSpec,
    LatentSpec,
    Manifest,
    OperatingPoint,
    PointTable,
    head_name,
    load_bundle,
    write_manifest,
)

SEED = 7
WIDTHS = (0.25, 0.5, 0.75, 1.0)
# Input pixels, channels of the four convolutions at full width, strides, latent channels.
ENCODERS: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], int]] = {
    "synthetic_32": (32, (16, 32, 48, 64), (1, 2, 2, 1), 8),
    "synthetic_224": (224, (32, 48, 64, 96), (2, 2, 2, 1), 24),
}
Timing = dict[str, float]
Samples = dict[str, list[list[float]]]


def run(*, quick: bool = False, bundle: str | None = None, threads: int = 1) -> dict[str, Any]:
    """Return `figures` and `ratios` of a bundle, or of the synthetic encoders; `quick` takes fewer rounds."""
    rounds = 10 if quick else 100
    figures: dict[str, Any] = {"threads": threads, "rounds": rounds}
    ratios: dict[str, Any] = {}
    if bundle is not None:
        loaded = load_bundle(bundle)
        figures[loaded.manifest.name], ratios[loaded.manifest.name] = _measure(loaded, threads, rounds)
    else:
        for name in ENCODERS:
            with _synthetic(name) as made:
                figures[name], ratios[name] = _measure(made, threads, rounds)
    return {"figures": figures, "ratios": ratios}


def _measure(bundle: Bundle, threads: int, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    bank = WidthBank(bundle, threads=threads, provider="cpu")
    spec = bundle.manifest.input
    rng = np.random.default_rng(SEED)
    image = rng.integers(0, 256, (spec.height, spec.width, spec.channels), dtype=np.uint8)
    _check(bank, bundle, image, threads)
    count = len(bundle.manifest.widths)
    samples: Samples = {
        kind: [[] for _ in range(count)] for kind in ("stay", "switch", "reload", "reload_uncached")
    }
    for number in range(rounds + 1):
        # Another order of widths every round, so that no width always follows the same one.
        order = [int(index) for index in rng.permutation(count)]
        taken = _round(bank, bundle, image, order, threads)
        if number:  # the first round warms up
            for kind, per_width in taken.items():
                for index, seconds in per_width.items():
                    samples[kind][index].append(seconds)
    return _report(bundle, samples)


def _round(
    bank: WidthBank, bundle: Bundle, image: NDArray[np.uint8], order: list[int], threads: int
) -> dict[str, dict[int, float]]:
    stay, switch, reload, uncached = {}, {}, {}, {}
    for index in order * 3:  # the reloads of the round before have emptied the processor's caches
        bank.head(index, image)
    for index in order:
        bank.head(index, image)
        stay[index] = _timed(lambda index=index: bank.head(index, image))
    bank.head(order[-1], image)
    for index in order:
        switch[index] = _timed(lambda index=index: bank.head(index, image))
    for index in order:
        reload[index] = _timed(lambda index=index: _reload(bundle, index, image, threads))
    for index in order:
        _drop_from_cache(bundle.root / head_name(bundle.manifest.widths[index]))
        uncached[index] = _timed(lambda index=index: _reload(bundle, index, image, threads))
    return {"stay": stay, "switch": switch, "reload": reload, "reload_uncached": uncached}


def _timed(call: Any) -> float:
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / 1e9


def _reload(bundle: Bundle, index: int, image: NDArray[np.uint8], threads: int) -> NDArray[np.uint8]:
    session = ort.InferenceSession(
        bundle.head(index), session_options(threads), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: image[np.newaxis]})[0][0]


def _check(bank: WidthBank, bundle: Bundle, image: NDArray[np.uint8], threads: int) -> None:
    """A bank that gave another answer than a fresh session would have no speed."""
    latents = [bank.head(index, image)[0] for index in range(len(bundle.manifest.widths))]
    for index, latent in enumerate(latents):
        if not np.array_equal(latent, _reload(bundle, index, image, threads)):
            raise AssertionError(f"width {index}: the bank and a fresh session differ")
    if len(latents) > 1 and np.array_equal(latents[0], latents[-1]):
        raise AssertionError("the narrowest and the widest head give the same latent")


def _drop_from_cache(file: Path) -> None:
    with file.open("rb") as handle:
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _report(bundle: Bundle, samples: Samples) -> tuple[dict[str, Any], dict[str, Any]]:
    figures: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for index, width in enumerate(bundle.manifest.widths):
        stay, switch, reload = (samples[kind][index] for kind in ("stay", "switch", "reload"))
        costs = [after - same for after, same in zip(switch, stay, strict=True)]
        name = f"width_{width:g}"
        figures[name] = {
            "file_bytes": (bundle.root / head_name(width)).stat().st_size,
            "stay_s": _spread(stay),
            "switch_s": _spread(switch),
            "switch_cost_s": _spread(costs),
            "reload_s": _spread(reload),
            "reload_uncached_s": _spread(samples["reload_uncached"][index]),
        }
        ratios[name] = {
            "switch_over_stay": _spread([a / b for a, b in zip(switch, stay, strict=True)]),
            "reload_over_switch": _spread([a / b for a, b in zip(reload, switch, strict=True)]),
        }
    return figures, ratios


def _spread(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "first_quartile": low, "third_quartile": high}


@contextmanager
def _synthetic(name: str) -> Iterator[Bundle]:
    """Yield a bundle that has heads only: enough for a bank."""
    pixels, channels, strides, latent_channels = ENCODERS[name]
    side = pixels // int(np.prod(strides))
    manifest = Manifest(
        schema_version=1,
        name=name,
        task="classification",
        labels=("a", "b"),
        input=InputSpec(height=pixels, width=pixels, channels=3),
        latent=LatentSpec(
            channels=latent_channels, height=side, width=side, zero_points=(128,) * latent_channels
        ),
        widths=WIDTHS,
        points=(OperatingPoint(0, 1),),
        codecs=("raw",),
        table_id="0" * 16,
        files={},
    )
    points = PointTable(measured_on="nothing", host="", teacher_utility=0.0, records=())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rng = np.random.default_rng(SEED)
        for width in WIDTHS:
            file = root / head_name(width)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(_encoder(pixels, [*channels, latent_channels], [*strides, 1], width, rng))
        yield Bundle(root=root, manifest=write_manifest(root, manifest), points=points, digest="")


def _encoder(
    pixels: int, channels: list[int], strides: list[int], width: float, rng: np.random.Generator
) -> bytes:
    """Return an ONNX head as the export makes them: uint8 NHWC in, convolutions with ReLU, uint8 NCHW out."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {"scale": np.float32(1 / 64), "low": np.float32(0), "high": np.float32(255)}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["nchw", "scale"], ["x0"]),
    ]
    wide, last = 3, len(channels) - 1
    for layer, (full, stride) in enumerate(zip(channels, strides, strict=True)):
        out = full if layer == last else max(1, round(full * width))
        weights = rng.normal(0.0, (2 / (9 * wide)) ** 0.5, (out, wide, 3, 3)).astype(np.float32)
        constants[f"w{layer}"] = weights * (16 if layer == last else 1)
        constants[f"b{layer}"] = np.full(out, 128 if layer == last else 0, np.float32)
        ends = f"c{layer}" if layer < last else "code"
        nodes.append(
            helper.make_node(
                "Conv",
                [f"x{layer}", f"w{layer}", f"b{layer}"],
                [ends],
                strides=[stride, stride],
                pads=[1] * 4,
            )
        )
        if layer < last:
            nodes.append(helper.make_node("Relu", [ends], [f"x{layer + 1}"]))
        wide = out
    nodes += [
        helper.make_node("Round", ["code"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "low", "high"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["latent"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", pixels, pixels, 3])],
        [helper.make_tensor_value_info("latent", TensorProto.UINT8, ["n", channels[-1], None, None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())
