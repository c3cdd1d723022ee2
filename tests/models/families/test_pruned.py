"""The list of layers as encoder: what its text means, what widths leave out, and that it is materialised."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from isthmus.models.backbones import make_model
from isthmus.models.design import BottleneckSize, design
from isthmus.models.families.pruned_structure import LayerSpec, PrunedStructure, parse_layer
from isthmus.models.network import SplitNetwork
from isthmus.runtime.errors import GateError, PlanError

LAYERS = (
    "conv 4/2 16 relu6",
    "pool 3/2",
    "residual 3/1 16",
    "residual 3/2 32 projected",
    "inverted 3/1 48 32 relu6",
    "residual 3/1 36",
    "conv 1/1 32 linear",
)
SKIPPED = ((2, 4), (4,), ())


def _images(count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 32, 32, 1), dtype=torch.uint8, generator=generator)


def _network(make_split: Callable[..., SplitNetwork], **structure: object) -> SplitNetwork:
    torch.manual_seed(0)
    size = BottleneckSize(
        family="pruned",
        channels=8,
        widths=(0.25, 0.5, 1.0),
        decoder_channels=16,
        decoder_blocks=1,
        exit_channels=0,
        structure={"layers": LAYERS, "skipped": SKIPPED, **structure},  # type: ignore[dict-item]
    )
    return make_split(make_model("digits-cnn", 10, 1).eval(), "stage3", (32, 32, 1), size)


@pytest.mark.parametrize("private", [False, True])
def test_every_width_runs_its_layers_and_is_materialised(
    private: bool,
    make_split: Callable[..., SplitNetwork],
    lively: Callable[[SplitNetwork, torch.Tensor], SplitNetwork],
) -> None:
    network = _network(make_split, private=private)
    with pytest.raises(GateError, match="calibrate"):
        network.materialise_head(1)
    lively(network, _images())
    codes = [network.codes(_images(), width_index) for width_index in range(3)]
    assert codes[0].shape == (6, 8, 4, 4)
    for width_index, own in enumerate(codes):
        found = network.materialise_head(width_index)(_images())
        assert ((found.int() - own.int()) != 0).float().mean() < 0.01
        assert (own != own[:1]).any()
    heads = [network.materialise_head(width_index) for width_index in range(3)]
    convolutions = [sum(isinstance(part, nn.Conv2d) for part in head.modules()) for head in heads]
    # A residual block has two convolutions, a strided one another as its shortcut; an inverted one has three.
    assert [convolutions[2] - count for count in convolutions] == [6, 4, 0]
    assert not any(isinstance(part, nn.BatchNorm2d) for head in heads for part in head.modules())


def test_fractions_part_channels_from_widths(make_split: Callable[..., SplitNetwork]) -> None:
    network = _network(make_split, fractions=(0.5, 1.0, 1.0))
    assert network.encoder.layers[0].conv.out_channels == (8, 16, 16)  # type: ignore[union-attr]


def test_a_private_affine_is_one_per_width(make_split: Callable[..., SplitNetwork]) -> None:
    network = _network(make_split, private=True)
    norm = network.encoder.layers[0].norm  # type: ignore[union-attr]
    assert norm.weight.shape == (3, 16)  # type: ignore[union-attr]
    x = torch.randn(4, 1, 32, 32)
    network.train()
    before = [network.encoder(x, width_index) for width_index in range(3)]
    with torch.no_grad():
        norm.bias[1] += 1.0  # type: ignore[index,operator]
    after = [network.encoder(x, width_index) for width_index in range(3)]
    same = [torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert same == [True, False, True]


_CONVS = st.builds(
    LayerSpec,
    kind=st.just("conv"),
    kernel=st.integers(4, 9),
    stride=st.integers(1, 4),
    channels=st.integers(4, 99),
    word=st.sampled_from(["relu", "relu6", "linear"]),
    source=st.sampled_from([None, "layer1.0", "features.5"]),
)


@given(_CONVS, st.integers(16, 64))
def test_a_layers_text_reads_back_and_its_plane_is_torchs(spec: LayerSpec, side: int) -> None:
    assert parse_layer(str(spec)) == spec
    conv = nn.Conv2d(1, 1, spec.kernel, spec.stride, spec.padding)
    assert conv(torch.zeros(1, 1, side, side)).shape[-1] == spec.plane(side)


@pytest.mark.parametrize(
    "text",
    [
        "conv 3/1 16",
        "conv 3 16 relu",
        "conv 3/1 2 relu",
        "residual 5/1 16",
        "inverted 4/1 16 16 relu",
        "inverted 3/1 16 relu",
        "pool 2/3",
        "conv 3/1 16 tanh",
    ],
)
def test_what_is_no_layer_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="give conv K/S CHANNELS ACTIVATION"):
        parse_layer(text)


def test_contradictions_are_one_line(make_split: Callable[..., SplitNetwork]) -> None:
    with pytest.raises(PlanError, match="give one for each of 3 widths"):
        _network(make_split, skipped=((2,),))
    with pytest.raises(PlanError, match="skipped layer 3: only layers that keep the shape"):
        _network(make_split, skipped=((3,), (), ()))
    with pytest.raises(PlanError, match="the last width keeps all channels"):
        _network(make_split, fractions=(0.5, 0.5, 0.5))
    with pytest.raises(PlanError, match="head_share 0"):
        PrunedStructure(head_share=0.0)
    with pytest.raises(PlanError, match="fewer channels than before it"):
        _network(make_split, layers=("conv 3/2 32 relu", "residual 3/2 16"), skipped=())


def test_auto_names_the_networks_layers_and_costs_less() -> None:
    teacher = make_model("cifar-resnet20", 10, 3).eval()
    labels = [str(index) for index in range(10)]

    def layers(head_share: float) -> tuple[str, ...]:
        size = BottleneckSize(family="pruned", structure={"head_share": head_share})
        config = design("x", teacher, cut="layer3.0", shape_hwc=(32, 32, 3), labels=labels, size=size)
        return tuple(config.structure["layers"])

    whole, half = layers(1.0), layers(0.6)
    assert whole[0] == "conv 3/1 16 relu from conv1"
    assert whole[-1] == "residual 3/2 64 from layer3.0"
    assert len(whole) == 8
    assert 4 <= len(half) < 8
    assert set(half) < set(whole)


def test_auto_on_large_images_has_a_stem_and_an_unknown_block_is_one_line() -> None:
    labels = [str(index) for index in range(10)]
    size = BottleneckSize(family="pruned")
    teacher = make_model("mobilenet-v2", 10, 3).eval()
    config = design("x", teacher, cut="features.13", shape_hwc=(96, 96, 3), labels=labels, size=size)
    layers = config.structure["layers"]
    assert layers[:3] == ("conv 6/4 32 relu", "conv 3/2 64 relu", "conv 1/1 32 linear")
    assert layers[-1].startswith("inverted 3/1")
    assert "from features.7" in " ".join(layers)
    teacher = make_model("densenet121", 10, 3).eval()
    with pytest.raises(PlanError, match="encoder auto"):
        design("x", teacher, cut="features.denseblock2", shape_hwc=(96, 96, 3), labels=labels, size=size)
