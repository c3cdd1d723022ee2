import json
import os
from pathlib import Path

import pytest
import torch

from isthmus.models.backbones.proxyless import W03, Architecture, Block, ProxylessNas, read_architecture
from isthmus.runtime.errors import InputError

DATA = Path(os.environ.get("ISTHMUS_DATA", "../shared/data"))
PUBLISHED = DATA / "weights/imagenet_proxyless/proxyless-w0.3-r176_imagenet.json"


def _description() -> dict[str, object]:
    convolution = {"name": "MBInvertedConvLayer", "kernel_size": 5, "expand_ratio": 3, "out_channels": 4}
    return {
        "first_conv": {"out_channels": 8},
        "blocks": [
            {"mobile_inverted_conv": {**convolution, "stride": 2}},
            {"mobile_inverted_conv": {"name": "ZeroLayer", "stride": 1}},
            {"mobile_inverted_conv": {**convolution, "stride": 1, "expand_ratio": 1}},
        ],
        "feature_mix_layer": {"out_channels": 12},
    }


def test_a_description_is_read(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(json.dumps(_description()))
    found = read_architecture(tmp_path / "net.json")
    assert found == Architecture(stem=8, blocks=(Block(5, 3, 4, 2), None, Block(5, 1, 4, 1)), last=12)
    network = ProxylessNas(found, 6, 2).eval()
    names = set(network.state_dict())
    assert "blocks.2.mobile_inverted_conv.depth_conv.conv.weight" in names
    # A removed block leaves its number, and what does not expand has no layer for it.
    assert not [name for name in names if name.startswith("blocks.1.")]
    assert "blocks.2.mobile_inverted_conv.inverted_bottleneck.conv.weight" not in names
    assert network(torch.zeros(2, 2, 32, 32)).shape == (2, 6)


@pytest.mark.data
@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"{PUBLISHED} is not here; set ISTHMUS_DATA")
def test_the_named_architecture_is_the_published_one() -> None:
    assert read_architecture(PUBLISHED) == W03


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"first_conv": {"out_channels": "x"}}'])
def test_what_is_no_description_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "net.json").write_text(text)
    with pytest.raises(InputError, match=r"net.json: no ProxylessNAS architecture") as error:
        read_architecture(tmp_path / "net.json")
    assert "\n" not in str(error.value)


def test_a_missing_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.json: No such file"):
        read_architecture(tmp_path / "absent.json")
