from collections.abc import Callable

import pytest
import torch

from isthmus.models.calibration import Calibrated
from isthmus.models.config import SplitConfig
from isthmus.models.families import FAMILIES
from isthmus.models.families.slim_decoder import Decoder, way_between, way_to_cut
from isthmus.models.families.slim_encoder import SlimEncoder
from isthmus.models.families.slim_structure import SlimStructure
from isthmus.models.network import SplitNetwork
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import GateError, PlanError


def test_every_width_emits_all_channels(calibrated: SplitNetwork) -> None:
    x = torch.randn(3, 1, 16, 16)
    shapes = [calibrated.encoder(x, index).shape for index in range(4)]
    assert shapes == [(3, 8, 4, 4)] * 4


def test_narrower_encoders_compute_less(make_config: Callable[..., SplitConfig]) -> None:
    encoder = SlimEncoder(make_config(encoder=((32, 1), (32, 1))), SlimStructure())
    sizes = [
        sum(weight.sliced(index).numel() for weight in encoder.modules() if hasattr(weight, "sliced"))
        for index in range(4)
    ]
    assert sizes == sorted(set(sizes))
    assert sizes[3] > 10 * sizes[0]


@pytest.mark.parametrize("width_index", range(4))
def test_a_materialised_encoder_is_the_same_function(calibrated: SplitNetwork, width_index: int) -> None:
    x = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = calibrated.encoder(x, width_index)
        plain = FAMILIES["slim"].materialise(calibrated.encoder, width_index)
        found = plain(x)
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())


def test_materialising_an_uncalibrated_width_is_refused(make_network: Callable[..., SplitNetwork]) -> None:
    with pytest.raises(GateError, match="calibrate"):
        FAMILIES["slim"].materialise(make_network().encoder, 0)


def test_private_gains_make_widths_differ_in_the_projection_only(calibrated: SplitNetwork) -> None:
    assert not torch.equal(calibrated.encoder.gain[0], calibrated.encoder.gain[1])
    assert not torch.equal(calibrated.encoder.bias[0], calibrated.encoder.bias[1])


@pytest.mark.parametrize(
    ("cut", "doublings", "shape"),
    [("stage1", 1, (16, 8, 8)), ("stage2", 0, (32, 4, 4)), ("stage3", -1, (64, 2, 2))],
)
def test_the_decoder_reaches_every_plane(
    make_config: Callable[..., SplitConfig], cut: str, doublings: int, shape: tuple[int, int, int]
) -> None:
    config = make_config(cut=cut)
    assert way_to_cut(config) == (doublings, True)
    features = Decoder(config, SlimStructure())(torch.randn(2, 8, 4, 4))
    assert features.shape == (2, *shape)
    assert features.min() >= 0  # every stage ends in a ReLU


def test_a_signed_cut_gets_signed_features(make_config: Callable[..., SplitConfig]) -> None:
    config = make_config(cut="stage2.1")  # after BatchNorm, before ReLU
    assert not config.non_negative
    assert Decoder(config, SlimStructure())(torch.randn(2, 8, 4, 4)).min() < 0


def test_a_plane_out_of_reach_is_refused(make_config: Callable[..., SplitConfig]) -> None:
    config = make_config()
    values = {**config.to_dict(), "cut_shape_chw": (32, 4, 16)}
    with pytest.raises(PlanError, match="'stage2' is 4x16: out of reach from a latent of 4x4"):
        way_to_cut(SplitConfig.from_dict(values))


def test_a_latent_that_the_stages_do_not_give_is_refused(make_config: Callable[..., SplitConfig]) -> None:
    values = {**make_config().to_dict(), "input_height": 18}
    with pytest.raises(PlanError, match="images of 18x16 give a latent of 5x4"):
        FAMILIES["slim"].encoder(SplitConfig.from_dict(values))


@pytest.mark.parametrize(
    "structure",
    [
        {"strides": (4, 1), "stem_kernel": 7},
        {"strides": (2, 1)},
        {"block": "inverted", "kernel": 5, "expansion": 3, "decoder_block": "inverted"},
        {"strides": (1, 2), "block": "inverted"},
    ],
)
def test_every_structure_materialises_as_it_computes(
    make_network: Callable[..., SplitNetwork],
    lively: Callable[[SplitNetwork, torch.Tensor], SplitNetwork],
    quarters: ImageSet,
    structure: dict[str, object],
) -> None:
    network = make_network(structure=structure, encoder=((8, 1), (12, 2)))
    lively(network, torch.from_numpy(quarters.images[:32]))
    x = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for width_index in range(4):
        with torch.no_grad():
            wanted = network.encoder(x, width_index)
            found = FAMILIES["slim"].materialise(network.encoder, width_index)(x)
            features = network.decoder(wanted)
        assert wanted.std() > 0.1
        assert wanted.shape[2:] == (network.config.latent_height, network.config.latent_width)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
        assert features.shape == (3, *network.config.cut_shape_chw)


@pytest.mark.parametrize("block", ["residual", "inverted"])
def test_a_quarter_of_the_width_costs_about_a_sixteenth(
    make_config: Callable[..., SplitConfig], block: str
) -> None:
    structure = {"block": block}
    config = make_config(encoder=((32, 0), (64, 3)), channels=8, structure=structure)
    torch.manual_seed(0)
    encoder = FAMILIES["slim"].encoder(config)
    for part in encoder.modules():
        if isinstance(part, Calibrated):
            part.batches.fill_(1)  # their values do not matter here
    costs = [_multiplications(FAMILIES["slim"].materialise(encoder, index)) for index in (0, 3)]
    assert 8 < costs[1] / costs[0] < 20


def _multiplications(module: torch.nn.Module) -> int:
    total = 0

    def count(layer: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(layer, torch.nn.Conv2d)
        total += layer.weight[0].numel() * output[0].numel()

    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    module(torch.zeros(1, 1, 16, 16))
    return total


@pytest.mark.parametrize(
    ("latent", "cut", "way"),
    [
        ((8, 8), (8, 8), (0, True)),
        ((28, 28), (7, 7), (-2, True)),
        ((7, 7), (55, 55), (3, False)),
        ((29, 29), (55, 55), (1, False)),
        ((15, 20), (8, 10), (-1, True)),
        ((8, 8), (1, 1), (-3, True)),
        ((4, 4), (4, 16), None),
        ((2, 2), (200, 200), None),
    ],
)
def test_ways_between_planes(
    latent: tuple[int, int], cut: tuple[int, int], way: tuple[int, bool] | None
) -> None:
    assert way_between(latent, cut) == way


def test_a_plane_of_another_size_is_interpolated(make_config: Callable[..., SplitConfig]) -> None:
    values = {**make_config().to_dict(), "cut_shape_chw": (32, 7, 7)}
    features = FAMILIES["slim"].decoder(SplitConfig.from_dict(values))(torch.randn(2, 8, 4, 4))
    assert features.shape == (2, 32, 7, 7)
