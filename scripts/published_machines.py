"""Derive machine profiles from published times of whole networks, and from published watts.

Run it as `python scripts/published_machines.py`; a test derives them again and compares. The times are facts
that others published, each with its place. A network's time is modelled as

    seconds = operations / rate + bytes / rate + overhead * layers

over its layers with weights, and the three terms are fitted, none below 0, by least squares of the relative
error. These backends fuse what stands between such layers, so the rest is counted with them; and a few times
of whole networks cannot tell the classes of such layers apart, so they have one speed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from isthmus.runtime.machines import MachineProfile, Operator, OperatorSpeed, load_machine, write_machine

sys.path.insert(0, str(Path(__file__).parent))
from keras_layers import NETWORKS, Layer, _Net, mobilenet_v2  # files beside this one
from machine_facts import CITED, POWER, RADIO

ROOT = Path(__file__).resolve().parent.parent
_WITH_WEIGHTS: tuple[Operator, ...] = ("conv", "depthwise", "matmul")
# How much faster a Raspberry Pi 5 runs TensorFlow than a 4 (Allan 2024, MIT licence): milliseconds of both.
_PI4_OVER_PI5 = ((483.5, 148.9), (263.9, 66.2))
_ALLAN = (
    "A. Allan, Benchmarking Machine Learning on the Edge (github.com/aallan/benchmarking-ml-on-the-edge): "
    "TensorFlow, MobileNet v2 483.5 and 148.9 ms, MobileNet v1 SSD 263.9 and 66.2 ms on a Pi 4 and a Pi 5"
)
_NCNN = "ncnn's own benchmark table (Tencent/ncnn, benchmark/README.md)"
_NETSPRESSO = "the table of Nota's NetsPresso Trainer (docs/benchmarks/device_matrix/tensorrt.md)"
_NVIDIA = "NVIDIA, Jetson Nano Brings AI Computing to Everyone (2019)"


def basic_resnet(blocks: Sequence[int]) -> list[Layer]:
    """Return ResNet (v1) with so many blocks of two 3x3 convolutions in each of its four stages."""
    net = _Net()
    net.conv_norm(64, 7, 2)
    net.relu()
    net.pool(3, 2)
    for stage, count in enumerate(blocks):
        for index in range(count):
            source, stride = net.shape, 2 if index == 0 and stage else 1
            net.conv_norm(64 << stage, 3, stride)
            net.relu()
            net.conv_norm(64 << stage, 3)
            if stride == 2:
                made, net.shape = net.shape, source
                net.conv_norm(64 << stage, 1, 2)
                net.shape = made
            net.sum_with()
            net.relu()
    net.mean()
    net.dense(1000)
    return net.layers


def mobilenet_v3_large() -> list[Layer]:
    """Return MobileNetV3-Large of width 1 (Howard 2019, table 1), squeeze-and-excite as its two products."""
    net = _Net()
    net.conv_norm(16, 3, 2)
    for kernel, expand, channels, excite, stride in (
        (3, 16, 16, 0, 1), (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 24, 2), (5, 120, 40, 32, 1),
        (5, 120, 40, 32, 1), (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 184, 80, 0, 1), (3, 184, 80, 0, 1),
        (3, 480, 112, 120, 1), (3, 672, 112, 168, 1), (5, 672, 160, 168, 2), (5, 960, 160, 240, 1),
        (5, 960, 160, 240, 1),
    ):  # fmt: skip
        if expand != net.shape[2]:
            net.conv_norm(expand, 1)
        net.depthwise(kernel, stride, same=True)
        if excite:
            made = net.shape
            net.mean()
            net.dense(excite)
            net.dense(expand)
            net.shape = made
        net.conv_norm(channels, 1)
    net.conv_norm(960, 1)
    net.mean()
    net.dense(1280)
    net.dense(1000)
    return net.layers


WHOLE: Mapping[str, Callable[[], list[Layer]]] = {
    **NETWORKS,
    "resnet18": lambda: basic_resnet((2, 2, 2, 2)),
    "resnet34": lambda: basic_resnet((3, 4, 6, 3)),
    "mobilenetv2-300": lambda: mobilenet_v2(300),
    "mobilenetv3-large": mobilenet_v3_large,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine with published milliseconds of whole networks; those in `held_out` are not fitted."""

    name: str
    processor: str
    provider: str
    backend: str
    threads: int | None
    times_ms: Mapping[str, float]
    held_out: tuple[str, ...]
    place: str


MACHINES = (
    Machine(
        name="jetson-nano",
        processor="NVIDIA Jetson Nano (128-core Maxwell GPU)",
        provider="TensorrtExecutionProvider",
        backend="TensorRT, FP16",
        threads=None,
        times_ms={"resnet18": 10.858, "resnet34": 19.519, "resnet50": 29.282, "vgg19": 100.0,
                  "mobilenetv2-300": 15.625},
        held_out=("resnet34",),
        place=f"{_NETSPRESSO}, Jetson Nano, JetPack 4.6; VGG-19 (10 a second) and MobileNetV2 at 300x300 "
        f"(64 a second): {_NVIDIA}",
    ),
    Machine(
        name="orin-nano",
        processor="NVIDIA Jetson Orin Nano (1024-core Ampere GPU)",
        provider="TensorrtExecutionProvider",
        backend="TensorRT (JetPack 6.0), FP16",
        threads=None,
        times_ms={"resnet18": 1.998, "resnet34": 3.484, "resnet50": 4.802, "mobilenetv3-large": 2.512},
        held_out=("resnet34",),
        place=f"{_NETSPRESSO}, Jetson Orin Nano, JetPack 6.0; its power mode is not stated",
    ),
    Machine(
        name="laptop",
        processor="Apple M1 (MacBook Pro, 13-inch, 2020)",
        provider="CPUExecutionProvider",
        backend="ncnn, FP16 arithmetic",
        threads=1,
        times_ms={"mobilenet": 9.37, "mobilenetv2": 5.73, "resnet50": 43.75, "resnet18": 16.99,
                  "vgg16": 75.19},
        held_out=("resnet18", "vgg16"),  # its Winograd convolutions of 3x3 are no class of their own
        place=f"{_NCNN}, MacBook Pro (13-inch, M1, 2020), 1 thread",
    ),
    Machine(
        name="server-gpu",
        processor="NVIDIA GeForce RTX 2080",
        provider="CUDAExecutionProvider",
        backend="ncnn on Vulkan, FP16",
        threads=None,
        times_ms={"mobilenet": 1.42, "mobilenetv2": 2.00, "resnet18": 2.24, "vgg16": 7.80, "resnet50": 4.49},
        held_out=("resnet18",),
        place=f"{_NCNN}, RTX2080 of Desktop",
    ),
)  # fmt: skip


def derive() -> dict[str, MachineProfile]:
    """Return the profile of every machine, by name."""
    return {"pi5": _pi5(), **{machine.name: _profile(machine) for machine in MACHINES}}


def _pi5() -> MachineProfile:
    pi4 = load_machine("pi4")
    factor = float(np.exp(np.mean([np.log(old / new) for old, new in _PI4_OVER_PI5])))
    origin = f"the speeds of pi4 times {factor:.2f}, the geometric mean of two networks; {_ALLAN}"
    speeds = tuple(
        msgspec.structs.replace(
            speed,
            flops_per_s=speed.flops_per_s and _rounded(speed.flops_per_s * factor),
            bytes_per_s=speed.bytes_per_s and _rounded(speed.bytes_per_s * factor),
            overhead_s=_rounded(speed.overhead_s / factor),
            origin=origin,
        )
        for speed in pi4.operators
    )
    return msgspec.structs.replace(
        pi4,
        name="pi5",
        origin=f"Scaled: {origin}. TensorFlow's speeds, not ONNX Runtime's: profile a machine of your own "
        "where you have one.",
        processor="Raspberry Pi 5",
        power=POWER["pi5"],
        operators=speeds,
        radio=RADIO["pi5"],
        cited=CITED["pi5"],
    )


def _profile(machine: Machine) -> MachineProfile:
    fitted = {name: ms for name, ms in machine.times_ms.items() if name not in machine.held_out}
    terms = _fit(fitted)
    ratios = {name: _predict_ms(terms, name) / ms for name, ms in machine.times_ms.items()}
    told = ", ".join(f"{name} {ratios[name]:.2f}" for name in fitted)
    apart = ", ".join(f"{name} {ratios[name]:.2f}" for name in machine.held_out)
    origin = f"fitted to whole networks, {', '.join(fitted)}, of {machine.place}"
    return MachineProfile(
        name=machine.name,
        origin=(
            f"Scaled: {origin}. Predicted over published times: {told}; of networks that were not fitted: "
            f"{apart}. {machine.backend}, not ONNX Runtime: profile a machine of your own where you have one."
        ),
        source="scaled",
        processor=machine.processor,
        provider=machine.provider,
        backend=machine.backend,
        threads=machine.threads,
        power=POWER.get(machine.name),
        operators=(
            *(_speed(operator, terms, origin) for operator in _WITH_WEIGHTS),
            OperatorSpeed(
                operator="other",
                flops_per_s=None,
                bytes_per_s=None,
                overhead_s=0.0,
                source="scaled",
                origin=f"what has no weights is counted with the layers that have: {origin}",
            ),
        ),
        radio=RADIO.get(machine.name),
        cited=CITED.get(machine.name, {}),
    )


def _speed(operator: Operator, terms: NDArray[np.float64], origin: str) -> OperatorSpeed:
    flop_s, byte_s, layer_s = terms
    return OperatorSpeed(
        operator=operator,
        flops_per_s=_rounded(1 / flop_s) if flop_s else None,
        bytes_per_s=_rounded(1 / byte_s) if byte_s else None,
        overhead_s=_rounded(layer_s),
        source="scaled",
        origin=origin,
    )


def _work(name: str) -> NDArray[np.float64]:
    """Return the operations and bytes of the layers with weights, and how many there are."""
    layers = [layer for layer in WHOLE[name]() if layer.operator in _WITH_WEIGHTS]
    flops, nbytes = sum(layer.flops for layer in layers), sum(layer.nbytes for layer in layers)
    return np.array([flops, nbytes, len(layers)], float)


def _fit(times_ms: Mapping[str, float]) -> NDArray[np.float64]:
    work = np.array([_work(name) / (ms / 1e3) for name, ms in times_ms.items()])
    scale = work.max(axis=0)
    return nnls(work / scale, np.ones(len(times_ms)))[0] / scale


def _predict_ms(terms: NDArray[np.float64], name: str) -> float:
    return float(terms @ _work(name)) * 1e3


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def main(write: Callable[[Path, MachineProfile], None] = write_machine) -> None:
    """Write the profile of every machine into the package."""
    for name, profile in derive().items():
        file = ROOT / "runtime" / "machines" / "reference" / f"{name}.json"
        write(file, profile)
        print(f"{file}: {profile.origin}")


if __name__ == "__main__":
    main()
