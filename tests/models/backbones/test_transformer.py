import pytest
import torch
from torch import nn

from isthmus.models.backbones import make_model
from isthmus.models.backbones.transformer import Deit, DeitAttention, VisionTransformer, VitAttention
from isthmus.runtime.errors import InputError


def test_attention_equals_torchs_own() -> None:
    torch.manual_seed(0)
    ours, theirs = VitAttention(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    ours.load_state_dict(theirs.state_dict())  # the names are the same, too
    tokens = torch.randn(2, 7, 24)
    expected, _ = theirs(tokens, tokens, tokens)
    assert torch.allclose(ours(tokens), expected, atol=1e-6)
    assert expected.std() > 0.01


def test_both_layouts_compute_the_same() -> None:
    torch.manual_seed(0)
    joint, split = VitAttention(16, 2), DeitAttention(16, 2)
    split.qkv.weight.data, split.qkv.bias.data = joint.in_proj_weight.data, joint.in_proj_bias.data
    split.proj.load_state_dict(joint.out_proj.state_dict())
    tokens = torch.randn(2, 5, 16)
    assert torch.equal(joint(tokens), split(tokens))


@pytest.mark.parametrize("kind", [VisionTransformer, Deit])
def test_every_patch_is_seen_in_its_place(kind: type[VisionTransformer] | type[Deit]) -> None:
    torch.manual_seed(0)
    network = kind(3, 1, (32, 48), width=8, depth=2, heads=2).eval()
    image = torch.randn(1, 1, 32, 48)
    answer = network(image)
    for row in (0, 16):
        for column in (0, 16, 32):
            changed = image.clone()
            changed[..., row : row + 16, column : column + 16] += 1
            assert not torch.allclose(network(changed), answer, atol=1e-7)
    assert not torch.allclose(network(image.roll(16, dims=3)), answer, atol=1e-7)


def test_the_image_size_reaches_the_network() -> None:
    network = make_model("deit-tiny", 4, 1, image_size=(32, 64)).eval()
    assert network.state_dict()["pos_embed"].shape == (1, 1 + 2 * 4, 192)
    assert network(torch.zeros(2, 1, 32, 64)).shape == (2, 4)


@pytest.mark.parametrize("size", [(224, 225), (0, 224), (8, 8)])
def test_a_size_that_has_no_whole_patches_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"images of {size[0]}×{size[1]}: .* multiples of 16"):
        make_model("vit-b16", 4, 3, image_size=size)
