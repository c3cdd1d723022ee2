"""The layers of ten published Keras networks, in the order of their indices, with what each has to do.

Written down from the architectures (Simonyan 2014, He 2015, Howard 2017, Sandler 2018, Huang 2016) as
`keras.applications` builds them at 224x224, so that measured times of ranges of layers can be related to
operations and bytes. A multiplication with its addition counts as two operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from isthmus.runtime.machines import Operator

_FLOAT_BYTES = 4
_CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer: its class, operations and bytes (None for the input, which does nothing), and its output."""

    operator: Operator | None
    flops: int
    nbytes: int
    output_bytes: int


@dataclass(slots=True)
class _Net:
    """Builds a chain of layers; `shape` is height, width and channels of the last output."""

    shape: tuple[int, int, int] = (224, 224, 3)
    layers: list[Layer] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = math.prod(self.shape) * _FLOAT_BYTES
        self.layers.append(Layer(operator=None, flops=0, nbytes=0, output_bytes=size))

    def add(
        self, operator: Operator, flops: int, shape: tuple[int, int, int], *, weights: int = 0, read: int = 0
    ) -> None:
        """Append a layer that reads the last output (or `read` elements) and makes `shape`."""
        elements = (read or math.prod(self.shape)) + math.prod(shape) + weights
        self.shape = shape
        output_bytes = math.prod(shape) * _FLOAT_BYTES
        self.layers.append(
            Layer(operator=operator, flops=flops, nbytes=elements * _FLOAT_BYTES, output_bytes=output_bytes)
        )

    def pad(self, low: int, high: int) -> None:
        h, w, c = self.shape
        self.add("other", 0, (h + low + high, w + low + high, c))

    def conv(self, channels: int, kernel: int, stride: int = 1, *, same: bool = True) -> None:
        h, w, c = self._swept(kernel, stride, same)
        window = kernel * kernel * c
        self.add("conv", 2 * h * w * channels * window, (h, w, channels), weights=window * channels)

    def depthwise(self, kernel: int, stride: int, *, same: bool) -> None:
        h, w, c = self._swept(kernel, stride, same)
        self.add("depthwise", 2 * h * w * c * kernel * kernel, (h, w, c), weights=kernel * kernel * c)

    def pool(self, kernel: int, stride: int) -> None:
        h, w, c = self._swept(kernel, stride, False)
        self.add("pool", h * w * c * kernel * kernel, (h, w, c))

    def norm(self) -> None:
        self.add("norm", 2 * math.prod(self.shape), self.shape, weights=4 * self.shape[2])

    def relu(self) -> None:
        self.add("elementwise", math.prod(self.shape), self.shape)

    def conv_norm(self, channels: int, kernel: int, stride: int = 1, *, same: bool = True) -> None:
        self.conv(channels, kernel, stride, same=same)
        self.norm()

    def sum_with(self) -> None:
        """Append an addition of two tensors of the last output's shape."""
        elements = math.prod(self.shape)
        self.add("elementwise", elements, self.shape, read=2 * elements)

    def mean(self) -> None:
        self.add("pool", math.prod(self.shape), (1, 1, self.shape[2]))

    def dense(self, units: int) -> None:
        inputs = math.prod(self.shape)
        self.add("matmul", 2 * inputs * units, (1, 1, units), weights=(inputs + 1) * units)

    def rename(self) -> None:
        """Append a layer that hardly computes: reshape, flatten, dropout, a softmax of one vector."""
        self.add("other", 0, self.shape)

    def _swept(self, kernel: int, stride: int, same: bool) -> tuple[int, int, int]:
        h, w, c = self.shape
        lost = 0 if same else kernel - 1
        return (h - lost + stride - 1) // stride, (w - lost + stride - 1) // stride, c


def vgg(convolutions: tuple[int, ...]) -> list[Layer]:
    """Return VGG with so many convolutions in each of its five stages."""
    net = _Net()
    for channels, count in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(count):
            net.conv(channels, 3)
        net.pool(2, 2)
    net.rename()
    for units in (4096, 4096, _CLASSES):
        net.dense(units)
    return net.layers


def resnet(blocks: tuple[int, ...]) -> list[Layer]:
    """Return ResNet (v1) with so many bottleneck blocks in each of its four stages."""
    net = _Net()
    net.pad(3, 3)
    net.conv_norm(64, 7, 2, same=False)
    net.relu()
    net.pad(1, 1)
    net.pool(3, 2)
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for index in range(count):
            source = net.shape
            stride = 2 if index == 0 and stage else 1
            net.conv_norm(width, 1, stride)
            net.relu()
            net.conv_norm(width, 3)
            net.relu()
            main = net.shape
            if index == 0:
                net.shape = source
                net.conv(4 * width, 1, stride)
                net.norm()
                net.shape = main
            net.conv_norm(4 * width, 1)
            net.sum_with()
            net.relu()
    net.mean()
    net.dense(_CLASSES)
    return net.layers


def mobilenet() -> list[Layer]:
    """Return MobileNet (v1) of width 1."""
    net = _Net()
    net.pad(0, 1)
    net.conv_norm(32, 3, 2, same=False)
    net.relu()
    for channels, stride in (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1),
    ):  # fmt: skip
        if stride == 2:
            net.pad(0, 1)
        net.depthwise(3, stride, same=stride == 1)
        net.norm()
        net.relu()
        net.conv_norm(channels, 1)
        net.relu()
    net.mean()
    net.rename()
    net.rename()
    net.conv(_CLASSES, 1)
    net.rename()
    net.rename()
    return net.layers


def mobilenet_v2(side: int = 224) -> list[Layer]:
    """Return MobileNetV2 of width 1 for images of `side` by `side` pixels."""
    net = _Net((side, side, 3))
    net.pad(0, 1)
    net.conv_norm(32, 3, 2, same=False)
    net.relu()
    for expand, channels, count, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for index in range(count):
            stride = first if index == 0 else 1
            if expand > 1:
                net.conv_norm(expand * net.shape[2], 1)
                net.relu()
            if stride == 2:
                net.pad(0, 1)
            net.depthwise(3, stride, same=stride == 1)
            net.norm()
            net.relu()
            net.conv_norm(channels, 1)
            if index:
                net.sum_with()
    net.conv_norm(1280, 1)
    net.relu()
    net.mean()
    net.dense(_CLASSES)
    return net.layers


def densenet(blocks: tuple[int, ...]) -> list[Layer]:
    """Return DenseNet (growth rate 32) with so many layers in each of its four blocks."""
    net = _Net()
    net.pad(3, 3)
    net.conv_norm(64, 7, 2, same=False)
    net.relu()
    net.pad(1, 1)
    net.pool(3, 2)
    for stage, count in enumerate(blocks):
        for _ in range(count):
            h, w, channels = net.shape
            net.norm()
            net.relu()
            net.conv_norm(128, 1)
            net.relu()
            net.conv(32, 3)
            net.add("other", 0, (h, w, channels + 32), read=h * w * (channels + 32))
        net.norm()
        net.relu()
        if stage < len(blocks) - 1:
            net.conv(net.shape[2] // 2, 1)
            net.pool(2, 2)
    net.mean()
    net.dense(_CLASSES)
    return net.layers


NETWORKS: Mapping[str, Callable[[], list[Layer]]] = {
    "vgg16": lambda: vgg((2, 2, 3, 3, 3)),
    "vgg19": lambda: vgg((2, 2, 4, 4, 4)),
    "resnet50": lambda: resnet((3, 4, 6, 3)),
    "resnet101": lambda: resnet((3, 4, 23, 3)),
    "resnet152": lambda: resnet((3, 8, 36, 3)),
    "mobilenet": mobilenet,
    "mobilenetv2": mobilenet_v2,
    "densenet121": lambda: densenet((6, 12, 24, 16)),
    "densenet169": lambda: densenet((6, 12, 32, 32)),
    "densenet201": lambda: densenet((6, 12, 48, 32)),
}
