from collections.abc import Callable

import pytest
import torch

from isthmus.models.backbones.transformer import Deit, VisionTransformer
from isthmus.models.cutting import list_cuts
from isthmus.models.design import BottleneckSize
from isthmus.models.linear_start import start_linearly
from isthmus.models.narrow_start import start_narrower
from isthmus.models.network import SplitNetwork
from isthmus.models.rate import LatentPrior
from isthmus.runtime.errors import InputError, PlanError

SHAPE = (32, 48, 3)


@pytest.fixture
def transformer() -> Deit:
    torch.manual_seed(0)
    return Deit(10, 3, SHAPE[:2], width=24, depth=3, heads=3).eval()


@pytest.fixture
def split(
    transformer: Deit,
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
    lively: Callable[..., SplitNetwork],
) -> SplitNetwork:
    network = make_split(transformer, "blocks.0", SHAPE, tiny_size("token"))
    return lively(network, torch.randint(0, 256, (8, *SHAPE), dtype=torch.uint8))


@pytest.mark.parametrize("kind", [Deit, VisionTransformer])
def test_block_outputs_are_cuts_with_their_grid(kind: type[torch.nn.Module]) -> None:
    network = kind(10, 3, SHAPE[:2], width=24, depth=2, heads=3)
    sites = {site.name: site for site in list_cuts(network, torch.zeros(1, 3, *SHAPE[:2]))}
    block = sites["blocks.0" if kind is Deit else "encoder.layers.encoder_layer_0"]
    assert (block.shape_chw, block.class_tokens) == ((24, 2, 3), 1)
    patches = sites["patch_embed" if kind is Deit else "conv_proj"]
    assert (patches.shape_chw, patches.class_tokens) == ((24, 2, 3), None)


def test_the_class_token_is_in_every_prefix(split: SplitNetwork) -> None:
    config = split.config
    assert config.structure["class_tokens"] == 1
    assert config.channel_counts == (2, 4, 8)
    images = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)
    codes = split.codes(images, 3)
    only = codes.clone()
    only[:, 1:] = split.quantiser.zero_point
    without = only.clone()
    without[:, 0] = split.quantiser.zero_point
    features = [
        split.decoder(split.quantiser.dequantised(part.float() - split.quantiser.zero_point))
        for part in (only, without)
    ]
    assert features[0].shape == split.teacher_head(split.normalise(images)).shape == (4, 7, 24)
    difference = (features[0] - features[1]).abs().amax(dim=(0, 2))
    assert difference[0] > 0
    assert (difference[1:] == 0).all()


def test_prefixes_without_a_place_for_the_grid_are_refused(
    transformer: Deit, tiny_size: Callable[..., BottleneckSize], make_split: Callable[..., SplitNetwork]
) -> None:
    with pytest.raises(PlanError, match="1 stand for class tokens, give at least one more"):
        make_split(transformer, "blocks.0", SHAPE, tiny_size("token", channels=1))


def test_a_network_without_class_token(
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
    lively: Callable[..., SplitNetwork],
) -> None:
    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = torch.nn.Conv2d(3, 8, 8, 8)
            self.mix = torch.nn.Linear(8, 8)
            self.head = torch.nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.mix(self.patches(x).flatten(2).transpose(1, 2))
            return self.head(tokens.mean(1))

    torch.manual_seed(0)
    network = make_split(Pooled(), "mix", (32, 32, 3), tiny_size("token"))
    assert network.config.structure.get("class_tokens", 0) == 0
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    lively(network, images)
    codes = network.codes(images, 0)
    assert network.logits(codes).std(0).max() > 0
    assert ((network.materialise_head(0)(images) != codes).float().mean()) < 0.01


@torch.no_grad()
def test_narrower_widths_begin_with_the_widests_class_tokens(split: SplitNetwork) -> None:
    encoder, prior = split.encoder, LatentPrior(len(split.config.widths), split.config.channels)
    encoder.gain[-1], encoder.bias[-1] = 2.0, 0.5
    start_narrower(split.train(), prior, torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8))
    assert torch.equal(encoder.gain, torch.full_like(encoder.gain, 2.0))
    assert torch.equal(encoder.bias, torch.full_like(encoder.bias, 0.5))


def test_a_linear_start_is_refused_in_one_line(split: SplitNetwork) -> None:
    with pytest.raises(InputError, match="linear_start: bottleneck 'token' has no projection to fit"):
        start_linearly(split, torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8))
