"""Small bottlenecks of every family, with lively untrained weights."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from isthmus.models.design import BottleneckSize, design
from isthmus.models.network import SplitNetwork

TINY: dict[str, dict[str, object]] = {
    "slim": {"structure": {}},
    "pruned": {
        "structure": {
            "layers": ("conv 3/2 16 relu", "residual 3/1 16", "conv 3/2 16 relu"),
            "skipped": ((1,), (), (), ()),
            "private": True,
        }
    },
    "bottlefit": {"structure": {"hidden": 8, "decoder_hidden": 16}},
    "entropic": {"structure": {"decoder_hidden": (16, 8)}},
    "ensemble": {"encoder": ((16, 1), (16, 0))},
    "token": {},
}


def _tiny(family: str, **changes: object) -> BottleneckSize:
    values: dict[str, object] = {
        "family": family,
        "channels": 8,
        "encoder": ((8, 1), (8, 0)),
        "decoder_channels": 16,
        "decoder_blocks": 1,
        "exit_channels": 0,
    }
    return BottleneckSize(**{**values, **TINY[family], **changes})  # type: ignore[arg-type]


def _lively(network: SplitNetwork, images_nhwc: torch.Tensor) -> SplitNetwork:
    with torch.no_grad():
        for name, parameter in network.encoder.named_parameters():
            if name.endswith(("norm2.weight", "norm3.weight")):
                parameter.fill_(0.7)  # blocks that begin as the identity would hide what is in them
    network.calibrate([images_nhwc])
    return network.eval()


@pytest.fixture
def tiny_size() -> Callable[..., BottleneckSize]:
    """Return `make(family, **changes)`: the size of a tiny bottleneck."""
    return _tiny


@pytest.fixture
def lively() -> Callable[[SplitNetwork, torch.Tensor], SplitNetwork]:
    """Return `make(network, images)`: the network calibrated, its blocks no identities."""
    return _lively


@pytest.fixture
def make_split() -> Callable[..., SplitNetwork]:
    """Return `make(teacher, cut, shape_hwc, size, labels=digits)`: an untrained, uncalibrated network."""

    def make(
        teacher: nn.Module,
        cut: str,
        shape_hwc: tuple[int, int, int],
        size: BottleneckSize,
        labels: Sequence[str] = tuple("0123456789"),
    ) -> SplitNetwork:
        config = design("mine.py:make", teacher, cut=cut, shape_hwc=shape_hwc, labels=labels, size=size)
        torch.manual_seed(0)
        return SplitNetwork(config, teacher)

    return make
