"""What holds for every kind of bottleneck, at every backbone that it fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.models.backbones import MODELS, make_model
from isthmus.models.backbones.transformer import Deit
from isthmus.models.checkpoint import network_parts
from isthmus.models.config import SplitConfig
from isthmus.models.cutting import list_cuts
from isthmus.models.design import BottleneckSize, design
from isthmus.models.families import FAMILIES, family_named
from isthmus.models.network import SplitNetwork
from isthmus.models.onnx_export import export_module
from isthmus.runtime.bundle.networks import Network
from isthmus.runtime.errors import GateError, PlanError

SMALL = {"squeezenet1.0": 67}  # odd planes; others take 64 and CIFAR's 32
QUICK = ("cifar-resnet20", "digits-cnn", "mobilenet-v2", "squeezenet1.0")
BACKBONES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
TRANSFORMERS = ("vit-b16", "deit-tiny")


def _shape(name: str) -> tuple[int, int, int]:
    height, _, channels = MODELS[name].shape_hwc
    side = SMALL.get(name, min(height, 64))
    return side, side, channels


def _images(shape_hwc: tuple[int, int, int], count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *shape_hwc), dtype=torch.uint8, generator=generator)


def _check_parity(network: SplitNetwork, images: torch.Tensor) -> None:
    config = network.config
    for width_index in range(len(config.widths)):
        codes = network.codes(images, width_index)
        assert codes.shape == (len(images), config.channels, config.latent_height, config.latent_width)
        assert (codes != codes[:1]).any(), "the latent does not depend on the image"
        found = network.materialise_head(width_index)(images)
        # Folding adds in another order: a value on the edge of two levels may fall to the other side.
        assert ((found.int() - codes.int()) != 0).float().mean() < 0.01
    logits = network.logits(codes)
    assert logits.isfinite().all()
    assert (logits - logits[:1]).abs().max() > 0
    torch.testing.assert_close(network.materialise_tail()(codes), logits, atol=1e-3, rtol=1e-3)


def _tiny_transformer() -> nn.Module:
    torch.manual_seed(0)
    return Deit(10, 3, (32, 32), width=24, depth=3, heads=3).eval()


def _check_all_that_fit(
    teacher: nn.Module,
    shape: tuple[int, int, int],
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
    lively: Callable[..., SplitNetwork],
) -> set[str]:
    sites = list_cuts(teacher, torch.zeros(1, shape[2], *shape[:2]))
    used = set()
    for family in FAMILIES.values():
        size = tiny_size(family.name)
        fitting = [site for site in sites if family.fits(site, shape, size)]
        if fitting:
            site = fitting[len(fitting) // 2]
            network = lively(make_split(teacher, site.name, shape, size), _images(shape))
            _check_parity(network, _images(shape))
            used.add(family.name)
    return used


@pytest.mark.parametrize("name", BACKBONES)
def test_every_family_at_every_backbone_that_it_fits(
    name: str,
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
    lively: Callable[..., SplitNetwork],
) -> None:
    shape = _shape(name)
    torch.manual_seed(0)
    teacher = make_model(name, 10, shape[2], image_size=shape[:2]).eval()
    used = _check_all_that_fit(teacher, shape, tiny_size, make_split, lively)
    convolutional = {"slim", "pruned", "bottlefit", "entropic", "ensemble"}
    assert used >= {"slim", "ensemble", "token"} if name in TRANSFORMERS else used == convolutional


def test_a_transformer(
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
    lively: Callable[..., SplitNetwork],
) -> None:
    used = _check_all_that_fit(_tiny_transformer(), (32, 32, 3), tiny_size, make_split, lively)
    assert used >= {"slim", "token"}


def _tiny_network(
    family: str, tiny_size: Callable[..., BottleneckSize], make_split: Callable[..., SplitNetwork]
) -> SplitNetwork:
    if family == "token":
        return make_split(_tiny_transformer(), "blocks.0", (32, 32, 3), tiny_size(family))
    torch.manual_seed(0)
    teacher = make_model("digits-cnn", 10, 1).eval()
    return make_split(teacher, "stage2", (32, 32, 1), tiny_size(family, exit_channels=8))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_never_calibrated_is_refused(
    family: str, tiny_size: Callable[..., BottleneckSize], make_split: Callable[..., SplitNetwork]
) -> None:
    network = _tiny_network(family, tiny_size, make_split).eval()
    config = network.config
    images = _images((config.input_height, config.input_width, config.input_channels))
    for width_index in range(len(config.widths)):
        with pytest.raises(GateError, match="calibrate"):
            network.codes(images, width_index)
        with pytest.raises(GateError, match="calibrate"):
            network.materialise_head(width_index)


@pytest.mark.parametrize("family", FAMILIES)
def test_exported_files_compute_what_torch_does(
    family: str,
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
    lively: Callable[..., SplitNetwork],
    tmp_path: Path,
) -> None:
    network = _tiny_network(family, tiny_size, make_split)
    config = network.config
    images = _images((config.input_height, config.input_width, config.input_channels))
    lively(network, images)
    width_index = len(config.widths) - 1
    codes = network.codes(images, width_index)
    cases = [
        ("head", network.materialise_head(width_index), images),
        ("tail", network.materialise_tail(), codes),
    ]
    for name, module, value in cases:
        path = tmp_path / f"{name}.onnx"
        export_module(module, value, path, input_name="in", output_name="out")
        found = Network(name, path.read_bytes(), threads=1).run(value.numpy())
        wanted = module(value).numpy()
        assert np.ptp(wanted.astype(np.float64), axis=0).max() > 0
        if name == "head":
            assert (found != wanted).mean() < 0.01
        else:
            np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_brings_every_family_back(
    family: str,
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
    lively: Callable[..., SplitNetwork],
    tmp_path: Path,
) -> None:
    network = _tiny_network(family, tiny_size, make_split)
    config = network.config
    images = _images((config.input_height, config.input_width, config.input_channels))
    lively(network, images)
    assert SplitConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    fresh = _tiny_network(family, tiny_size, make_split)
    for mine, theirs in zip(network_parts(fresh).values(), network_parts(network).values(), strict=True):
        mine.load_state_dict(theirs.state_dict())
    fresh.eval()
    assert torch.equal(fresh.codes(images, 0), network.codes(images, 0))
    assert torch.equal(fresh.logits(fresh.codes(images, 0)), network.logits(network.codes(images, 0)))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_part(
    family: str, tiny_size: Callable[..., BottleneckSize], make_split: Callable[..., SplitNetwork]
) -> None:
    network = _tiny_network(family, tiny_size, make_split).train()
    config, quantiser = network.config, network.quantiser
    images = _images((config.input_height, config.input_width, config.input_channels))
    for width_index in range(len(config.widths)):
        levels = quantiser.levels(network.encoder(network.normalise(images), width_index))
        assert levels.shape[1] == config.channels
        features = network.decoder(quantiser.dequantised(quantiser.rounded(levels)))
        assert features.shape == network.teacher_head(network.normalise(images)).shape
        features.square().mean().backward()
    # At the start the blocks' last layers are zero, so that only they have gradients beyond them.
    for part in (network.encoder, network.decoder):
        grads = [value.grad is not None and bool(value.grad.abs().max() > 0) for value in part.parameters()]
        assert sum(grads) > len(grads) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_an_ill_fitting_cut_lists_those_that_fit_the_family(
    family: str, tiny_size: Callable[..., BottleneckSize]
) -> None:
    labels = [str(index) for index in range(10)]
    teacher, good, bad = _tiny_transformer(), "blocks.1", "patch_embed"
    if family != "token":
        teacher, good, bad = make_model("cifar-resnet20", 10, 3), "layer3.0", "linear"
    with pytest.raises(PlanError, match=rf"cut '{bad}' does not fit this network; .*{good}") as error:
        design("x", teacher, cut=bad, shape_hwc=(32, 32, 3), labels=labels, size=tiny_size(family))
    assert bad not in str(error.value).partition("cuts that fit:")[2].replace(" ", "").split(",")


def test_an_unknown_family_or_setting_is_one_line(tiny_size: Callable[..., BottleneckSize]) -> None:
    with pytest.raises(PlanError, match="'wide': give one of slim, pruned, bottlefit, entropic, ensemble"):
        family_named("wide")
    teacher, labels = make_model("digits-cnn", 10, 1), [str(index) for index in range(10)]

    def designed(**structure: object) -> SplitConfig:
        size = tiny_size("slim", structure=structure)
        return design("x", teacher, cut="stage2", shape_hwc=(32, 32, 1), labels=labels, size=size)

    with pytest.raises(PlanError, match="'slim' has no setting 'colour'; it has strides"):
        designed(colour=1)
    with pytest.raises(PlanError, match="block = 3 is no str"):
        designed(block=3)
    with pytest.raises(PlanError, match="block 'dense': give one of residual, inverted"):
        designed(block="dense")
    with pytest.raises(PlanError, match=r"strides \(2,\): give one for each of 2 stages"):
        designed(strides=(2,))
