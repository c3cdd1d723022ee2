import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.models.backbones import make_model
from isthmus.models.cutting import CutSite, later_levels, list_cuts, split_at, split_in_order
from isthmus.runtime.errors import PlanError


class _Branches(nn.Module):
    """Two branches that meet, a skip over them, then a functional pool and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.mix, self.last = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 1)
        self.relu = nn.ReLU()
        self.linear = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.mix(self.left(x) + self.right(x) + x)
        x = self.last(self.relu(x)) + x
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class _LongSkip(nn.Module):
    """The first convolution is read again at the end: nothing between is a cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return (self.last(self.middle(first)) + first).mean((2, 3))


class _Unruly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_only_tensors_that_everything_passes_are_cuts(image: Tensor) -> None:
    # A module that runs twice (relu) names no single tensor; inside branches nothing is a cut.
    assert [site.name for site in list_cuts(_Branches(), image)] == ["stem", "mix"]
    assert [site.name for site in list_cuts(_LongSkip(), image)] == ["first"]


def test_cuts_carry_shape_and_outer_name(image: Tensor) -> None:
    resnet = make_model("cifar-resnet20", 10, 3)
    sites = {site.name: site for site in list_cuts(resnet, torch.zeros(1, 3, 32, 32))}
    assert list(sites)[:3] == ["conv1", "bn1", "layer1.0"]
    assert sites["layer2"] == CutSite(name="layer2", shape_chw=(32, 16, 16), aliases=("layer2.2",))
    assert "layer1.0.conv1" not in sites  # a shortcut passes by
    assert "linear" not in sites


@pytest.mark.parametrize("cut", ["conv1", "layer1.1", "layer2", "layer2.2", "layer3"])
def test_head_then_tail_is_the_network(cut: str) -> None:
    resnet = make_model("cifar-resnet20", 10, 3).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    head, tail = split_at(resnet, cut)
    with torch.no_grad():
        wanted = resnet(x)
        assert wanted.std() > 1e-3
        assert torch.equal(tail(head(x)), wanted)


def test_halves_hold_their_own_layers_and_share_the_parameters() -> None:
    resnet = make_model("cifar-resnet20", 10, 3)
    head, tail = split_at(resnet, "layer2")
    names = {name.split(".")[0] for name, _ in head.named_parameters()}
    assert names == {"conv1", "bn1", "layer1", "layer2"}
    assert {name.split(".")[0] for name, _ in tail.named_parameters()} == {"layer3", "linear"}
    assert head.get_parameter("conv1.weight") is resnet.get_parameter("conv1.weight")


def test_segments_follow_each_other(image: Tensor) -> None:
    network = _Branches().eval()
    segments = split_in_order(network, ("stem", "mix"))
    assert len(segments) == 3
    x = image
    for segment in segments:
        x = segment(x)
    assert torch.equal(x, network(image))
    with pytest.raises(PlanError, match="not in the order"):
        split_in_order(network, ("mix", "stem"))


def test_a_cut_that_does_not_fit_lists_those_that_do() -> None:
    with pytest.raises(PlanError, match=r"cut 'left' does not fit .*: stem, mix$"):
        split_at(_Branches(), "left")


def test_a_network_that_cannot_be_traced_or_run_is_one_line(image: Tensor) -> None:
    with pytest.raises(PlanError, match=r"_Unruly cannot be traced by torch.fx .*control flow") as error:
        list_cuts(_Unruly(), image)
    assert "\n" not in str(error.value)
    with pytest.raises(PlanError, match=r"_Branches does not run on an input of shape \(2, 1, 8, 8\)"):
        list_cuts(_Branches(), image[:, :1])


def test_listing_leaves_mode_and_statistics_alone() -> None:
    resnet = make_model("cifar-resnet20", 10, 3).train()
    list_cuts(resnet, torch.randn(1, 3, 32, 32))
    assert resnet.training
    assert resnet.get_buffer("bn1.running_mean").abs().max() == 0


def test_later_levels_are_the_last_of_each_resolution() -> None:
    sites = list_cuts(make_model("cifar-resnet20", 10, 3), torch.zeros(1, 3, 32, 32))
    assert later_levels(sites, "layer2.0") == ("layer2", "layer3")
    assert later_levels(sites, "layer2.2") == ("layer3",)
    assert later_levels(sites, "layer3") == ()
    with pytest.raises(PlanError, match="layer9"):
        later_levels(sites, "layer9")
