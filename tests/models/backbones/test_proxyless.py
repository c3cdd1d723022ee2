import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from isthmus.models.backbones.proxyless import W03, Architecture, Block, ProxylessNas

DATA = Path(os.environ.get("ISTHMUS_DATA", "../shared/data"))
PUBLISHED = DATA / "weights/imagenet_proxyless/proxyless-w0.3-r176_imagenet.json"


def test_a_removed_block_leaves_its_number() -> None:
    blocks = (Block(5, 3, 4, 2), None, Block(5, 1, 4, 1))
    network = ProxylessNas(Architecture(stem=8, blocks=blocks, last=12), 6, 2).eval()
    names = set(network.state_dict())
    assert "blocks.2.mobile_inverted_conv.depth_conv.conv.weight" in names
    assert not [name for name in names if name.startswith("blocks.1.")]
    # What does not expand has no layer for it.
    assert "blocks.2.mobile_inverted_conv.inverted_bottleneck.conv.weight" not in names
    assert network(torch.zeros(2, 2, 32, 32)).shape == (2, 6)


@pytest.mark.data
@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"{PUBLISHED} is not here; set ISTHMUS_DATA")
def test_the_named_architecture_is_the_published_one() -> None:
    published = json.loads(PUBLISHED.read_text())
    blocks = tuple(_block(entry["mobile_inverted_conv"]) for entry in published["blocks"])
    stem, last = (published[name]["out_channels"] for name in ("first_conv", "feature_mix_layer"))
    assert Architecture(stem=stem, blocks=blocks, last=last) == W03


def _block(entry: dict[str, Any]) -> Block | None:
    if entry["name"] == "ZeroLayer":
        return None
    return Block(entry["kernel_size"], entry["expand_ratio"], entry["out_channels"], entry["stride"])
