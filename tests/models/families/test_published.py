"""BottleFit and Entropic Student have the shapes that were published, and shapes that suit small images."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from isthmus.models.backbones import make_model
from isthmus.models.calibration import calibration
from isthmus.models.config import SplitConfig
from isthmus.models.design import BottleneckSize, design
from isthmus.models.families import FAMILIES
from isthmus.models.families.gdn import Gdn
from isthmus.models.families.medians import MedianQuantiser
from isthmus.models.families.min_max import MinMaxQuantiser
from isthmus.runtime.errors import GateError, PlanError

LABELS = [str(index) for index in range(10)]


def _config(ref: str, cut: str, shape: tuple[int, int, int], size: BottleneckSize) -> SplitConfig:
    teacher = make_model(ref, 10, shape[2]).eval()
    return design(ref, teacher, cut=cut, shape_hwc=shape, labels=LABELS, size=size)


@pytest.mark.parametrize(
    ("family", "channels", "ref", "cut", "latent", "cut_shape"),
    [
        ("bottlefit", 3, "resnet50", "layer2", (29, 29), (512, 28, 28)),
        ("bottlefit", 12, "densenet121", "features.transition2", (29, 29), (256, 14, 14)),
        ("entropic", 24, "resnet50", "layer1", (55, 55), (256, 56, 56)),
    ],
)
def test_published_shapes(
    family: str, channels: int, ref: str, cut: str, latent: tuple[int, int], cut_shape: tuple[int, int, int]
) -> None:
    size = BottleneckSize(family=family, channels=channels)
    config = _config(ref, cut, (224, 224, 3), size)
    assert (config.latent_height, config.latent_width) == latent
    assert (config.widths, config.channel_counts) == ((1.0,), (channels,))
    decoder = FAMILIES[family].decoder(config).train()
    assert not any(type(layer).__name__ == "Resize" for layer in decoder.modules())
    assert decoder(torch.randn(2, channels, *latent)).shape == (2, *cut_shape) == (2, *config.cut_shape_chw)
    if family == "bottlefit" and channels == 3:
        encoder = FAMILIES[family].encoder(config)
        assert sum(value.numel() for value in encoder.parameters()) == 3 * 64 * 49 + 4 * 64 + 64 * 3 * 4


@pytest.mark.parametrize(("family", "latent"), [("bottlefit", (8, 8)), ("entropic", (7, 7))])
@pytest.mark.parametrize("cut", ["layer1", "layer2", "layer3"])
def test_small_images_have_a_small_latent(family: str, latent: tuple[int, int], cut: str) -> None:
    config = _config("cifar-resnet20", cut, (32, 32, 3), BottleneckSize(family=family, channels=6))
    assert (config.latent_height, config.latent_width) == latent
    features = FAMILIES[family].decoder(config).train()(torch.randn(2, 6, *latent))
    assert features.shape == (2, *config.cut_shape_chw)


@pytest.mark.parametrize(
    ("family", "structure", "message"),
    [
        ("bottlefit", {"strides": (2, 3, 2)}, "strides"),
        ("bottlefit", {"padding": 2}, "padding 2"),
        ("bottlefit", {"hidden": 0}, "hidden 0"),
        ("entropic", {"strides": (2,)}, "strides"),
        ("entropic", {"decoder_hidden": (0, 4)}, "decoder_hidden"),
    ],
)
def test_a_structure_that_makes_no_sense_is_refused(
    family: str, structure: dict[str, object], message: str
) -> None:
    size = BottleneckSize(family=family, structure=structure)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=message):
        _config("cifar-resnet20", "layer2", (32, 32, 3), size)


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_its_formula_and_trains(inverse: bool) -> None:
    gdn = Gdn(3, inverse=inverse)
    with torch.no_grad():
        gdn.root_gamma.uniform_(0.1, 1.0)
        gdn.root_beta.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 4, 4)
    gamma, beta = gdn.root_gamma.square(), gdn.root_beta.square()
    root = (beta[:, None, None] + torch.einsum("ij,njhw->nihw", gamma, x.square())).sqrt()
    wanted = x * root if inverse else x / root
    torch.testing.assert_close(gdn(x), wanted)
    torch.testing.assert_close(gdn.materialise()(x), wanted)
    wanted.sum().backward()
    assert gdn.root_gamma.grad is not None
    assert gdn.root_gamma.grad.abs().min() > 0


def _observed(quantiser: nn.Module, batches: list[torch.Tensor]) -> None:
    with calibration(quantiser):
        for batch in batches:
            quantiser.observe(batch, 0)  # type: ignore[operator]


def test_minimum_and_maximum_span_the_byte() -> None:
    quantiser = MinMaxQuantiser(2).eval()
    y = torch.tensor([-1.0, 0.0, 0.5, 4.0]).reshape(1, 2, 1, 2)
    with pytest.raises(GateError, match="no range of the latent; calibrate"):
        quantiser.codes(y)
    _observed(quantiser, [100 * y])
    _observed(quantiser, [y[:, :1], y])  # measured anew
    assert quantiser.codes(y).flatten().tolist() == [0, 51, 77, 255]
    assert quantiser.zero_point == 51
    assert quantiser.codes(torch.full((1, 2, 1, 1), 9.0)).unique().tolist() == [255]
    codes = quantiser.codes(y)
    assert torch.equal(quantiser.materialise_codes()(y), codes)
    found = quantiser.materialise_reals()(codes)
    torch.testing.assert_close(found, y, atol=5.0 / 255, rtol=0)
    torch.testing.assert_close(quantiser.dequantised(quantiser.rounded(quantiser.levels(y))), found)
    assert found.flatten()[1] == 0.0


def test_minimum_and_maximum_do_nothing_in_training() -> None:
    quantiser = MinMaxQuantiser(2).train()
    y = torch.randn(1, 2, 3, 3)
    assert torch.equal(quantiser.dequantised(quantiser.rounded(quantiser.levels(y))), y)


def test_medians_centre_the_levels() -> None:
    quantiser = MedianQuantiser(2).eval()
    y = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0)) * 3
    y[:, 1] += 7.3
    with pytest.raises(GateError, match="no medians of the latent; calibrate"):
        quantiser.levels(y)
    _observed(quantiser, [y])
    median = y.transpose(0, 1).flatten(1).median(dim=1).values
    torch.testing.assert_close(quantiser.offset.medians, median)
    codes = quantiser.codes(y)
    assert torch.equal(codes, (y - median[:, None, None]).round().add(128).to(torch.uint8))
    assert torch.equal(quantiser.materialise_codes()(y), codes)
    assert F.l1_loss(quantiser.materialise_reals()(codes), y) < 0.5
