"""The networks that have a name, and the images that each was published for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from isthmus.models.backbones.cifar_resnet import CifarResNet
from isthmus.models.backbones.densenet import DenseNet
from isthmus.models.backbones.digits_cnn import DigitsCnn
from isthmus.models.backbones.efficientnet import EfficientNetB0
from isthmus.models.backbones.mobilenet_v2 import MobileNetV2
from isthmus.models.backbones.mobilenet_v3 import MobileNetV3Large
from isthmus.models.backbones.proxyless import W03, ProxylessNas
from isthmus.models.backbones.resnet import ResNet
from isthmus.models.backbones.squeezenet import SqueezeNet
from isthmus.models.backbones.transformer import Deit, VisionTransformer

# The usual normalisation of RGB networks; grey images are centred.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.5,), (0.5,)
_HALF = (0.5, 0.5, 0.5)
# Means of the pixels 0..255 that networks trained in Caffe subtract, and nothing else.
_CAFFE_MEAN, _CAFFE_STD = (123 / 255, 117 / 255, 104 / 255), (1 / 255, 1 / 255, 1 / 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A network by name.

    Attributes:
        make: `make(num_classes, in_channels)`, with `image_size=(height, width)` where `sized`.
        shape_hwc: Height, width and channels of the images that its published weights were made for.
        num_classes: Of these weights.
        mean: Normalisation that they expect, on pixels in [0, 1].
        std: Likewise.
        sized: Whether the network depends on the size of its images; others take any.
    """

    make: Callable[..., nn.Module]
    shape_hwc: tuple[int, int, int] = (224, 224, 3)
    num_classes: int = 1000
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    sized: bool = False


def _cifar(depth: int) -> Backbone:
    return Backbone(make=partial(CifarResNet, depth), shape_hwc=(32, 32, 3), num_classes=10)


MODELS: Mapping[str, Backbone] = {
    "cifar-resnet20": _cifar(20),
    "cifar-resnet56": _cifar(56),
    "cifar-resnet110": _cifar(110),
    "digits-cnn": Backbone(
        make=DigitsCnn, shape_hwc=(32, 32, 1), num_classes=10, mean=GREY_MEAN, std=GREY_STD
    ),
    **{f"resnet{depth}": Backbone(make=partial(ResNet, depth)) for depth in (18, 34, 50, 101, 152)},
    **{f"densenet{depth}": Backbone(make=partial(DenseNet, depth)) for depth in (121, 169, 201)},
    "mobilenet-v2": Backbone(make=MobileNetV2),
    "mobilenet-v2-same": Backbone(make=partial(MobileNetV2, trailing_pad=True), mean=_HALF, std=_HALF),
    "mobilenet-v3-large": Backbone(make=MobileNetV3Large),
    "efficientnet-b0": Backbone(make=EfficientNetB0),
    "squeezenet1.0": Backbone(make=SqueezeNet, shape_hwc=(227, 227, 3), mean=_CAFFE_MEAN, std=_CAFFE_STD),
    "proxyless-w0.3": Backbone(
        make=partial(ProxylessNas, W03), shape_hwc=(176, 176, 3), mean=_HALF, std=_HALF
    ),
    "vit-b16": Backbone(make=VisionTransformer, sized=True),
    "deit-tiny": Backbone(make=Deit, sized=True),
}
