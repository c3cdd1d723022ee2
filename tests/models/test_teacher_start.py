"""An encoder that is the network itself computes the same; a thinned one starts nearer than at random."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from isthmus.models.backbones import make_model, randomise
from isthmus.models.design import BottleneckSize, design
from isthmus.models.linear_start import start_linearly
from isthmus.models.network import SplitNetwork
from isthmus.models.stem_start import teach_stem
from isthmus.models.teacher_start import orders_of, start_from_teacher
from isthmus.runtime.errors import PlanError

LABELS = tuple("0123456789")


def _images(side: int, count: int = 48) -> torch.Tensor:
    """Return images with some structure, uint8."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    images = F.interpolate(coarse, (side, side), mode="bilinear") * 255
    return images.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _network(ref: str, cut: str, side: int, **size: object) -> SplitNetwork:
    torch.manual_seed(0)
    teacher = make_model(ref, 10, 3)
    randomise(teacher, (3, side, side), seed=0)
    values: dict[str, object] = {
        "channels": 8,
        "decoder_channels": 16,
        "decoder_blocks": 1,
        "exit_channels": 0,
    }
    asked = BottleneckSize(family="pruned", **{**values, **size})  # type: ignore[arg-type]
    config = design(ref, teacher.eval(), cut=cut, shape_hwc=(side, side, 3), labels=LABELS, size=asked)
    return SplitNetwork(config, teacher)


@torch.no_grad()
def _features(network: SplitNetwork, images: torch.Tensor, width_index: int) -> torch.Tensor:
    x_nchw = network.normalise(images)
    for layer in network.encoder.run_by(width_index):  # type: ignore[union-attr,operator]
        x_nchw = layer(x_nchw, width_index)
    return x_nchw


@pytest.mark.parametrize(
    ("ref", "cut", "side"),
    [("cifar-resnet20", "layer3.0", 32), ("resnet18", "layer2", 64), ("mobilenet-v2", "features.0", 64)],
)
def test_unthinned_it_is_the_network_with_its_channels_sorted(ref: str, cut: str, side: int) -> None:
    layers: dict[str, object] = {"head_share": 1.0}
    if ref == "mobilenet-v2":  # its second block is of a kind that is not copied
        layers = {"layers": ("conv 3/2 32 relu6 from features.0",)}
    network = _network(ref, cut, side, widths=(1.0,), structure=layers)
    images = _images(side)
    assert start_from_teacher(network, images)
    orders = orders_of(network, images)
    network.train()
    # Statistics of the same batch: what is left of a difference is that of the norms' small constant.
    found, wanted = _features(network, images, 0), network.teacher_head(network.normalise(images))
    _, order = orders[max(orders)]
    assert wanted.std() > 0
    error = (found - wanted[:, order]).square().mean() / wanted.var()
    assert error < 1e-3
    assert sorted(order.tolist()) == list(range(wanted.shape[1]))


def test_a_thinned_start_explains_more_than_random_layers() -> None:
    images = _images(32)
    explained = []
    for start in (True, False):
        network = _network("cifar-resnet20", "layer3.0", 32, structure={"head_share": 0.6})
        names = start_from_teacher(network, images) if start else []
        explained.append(start_linearly(network, images))
    assert explained[0] > explained[1]
    known = {name for name, _ in network.named_parameters()}
    assert set(names) <= known


def test_the_narrower_widths_have_codes_of_their_own() -> None:
    network = _network("cifar-resnet20", "layer3.0", 32, structure={"head_share": 0.6})
    images = _images(32)
    start_from_teacher(network, images)
    start_linearly(network, images)
    network.calibrate([images])
    codes = [network.codes(images, width_index).float() for width_index in range(4)]
    for own in codes[:-1]:
        together = torch.corrcoef(torch.stack([own[:, 0].flatten(), codes[-1][:, 0].flatten()]))[0, 1]
        assert together > 0.3


def test_a_stem_learns_what_the_copied_layers_are_used_to() -> None:
    network = _network("mobilenet-v2", "features.8", 96)
    images = _images(96)
    start_from_teacher(network, images)
    before = teach_stem(network, images, steps=1)
    shares: list[float] = []
    after = teach_stem(network, images, steps=60, progress=shares.append)
    assert shares == [pytest.approx((step + 1) / 60) for step in range(60)]
    assert before is not None
    assert after is not None
    assert after < 0.7 * before


def test_without_new_layers_there_is_no_stem_to_teach() -> None:
    network = _network("cifar-resnet20", "layer3.0", 32, structure={"head_share": 0.6})
    assert teach_stem(network, _images(32), steps=1) is None


def test_what_has_no_layers_of_the_networks_own_is_one_line() -> None:
    teacher = make_model("cifar-resnet20", 10, 3).eval()
    config = design("cifar-resnet20", teacher, cut="layer3.0", shape_hwc=(32, 32, 3), labels=LABELS)
    with pytest.raises(PlanError, match="bottleneck 'slim' has no layers of the network's own"):
        start_from_teacher(SplitNetwork(config, teacher), _images(32))
    layers = ("conv 3/2 16 relu", "conv 3/2 64 relu from layer3.0")
    network = _network("cifar-resnet20", "layer3.0", 32, structure={"layers": layers})
    with pytest.raises(PlanError, match=r"'residual 3/2 64 from layer3.0'; it does not fit"):
        start_from_teacher(network, _images(32))
