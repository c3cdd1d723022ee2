"""The entries that come with the package: whole, small, and silent about the machine they were made on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

import isthmus.models.zoo
from isthmus.models.zoo import entry_names, load_entry
from isthmus.models.zoo.entry import CARD, CONFIG, WEIGHTS

ROOT = Path(isthmus.models.zoo.__file__).parent
DATA = Path(os.environ.get("ISTHMUS_DATA") or Path(__file__).parents[4] / "shared" / "data")
UNCUT = {
    "cifar10-resnet56-slim": "cifar10_akamaster/resnet56-4bfd9763.th",
    "imagenette-mobilenetv2-slim": "imagenet_mobilenet_v2/mobilenet_v2_i8perchannel.npz",
}


def test_the_entries_are_whole_and_small() -> None:
    assert entry_names() == sorted(UNCUT)
    assert sum((ROOT / name / WEIGHTS).stat().st_size for name in UNCUT) <= 4_000_000
    for name in UNCUT:
        config = json.loads((ROOT / name / CONFIG).read_text())
        digest = hashlib.sha256((ROOT / name / WEIGHTS).read_bytes()).hexdigest()
        assert config["weights_sha256"] == digest


@pytest.mark.parametrize("name", sorted(UNCUT))
def test_a_card_says_what_a_user_needs_and_no_path_of_ours(name: str) -> None:
    text = (ROOT / name / CARD).read_text() + (ROOT / name / CONFIG).read_text()
    assert f"isthmus export --zoo {name} --weights FILE" in text
    for section in ("Figures", "Training", "Data and licences", "Recipe", "Limits"):
        assert f"\n## {section}\n" in text
    assert "/work" not in text
    assert "/tmp" not in text
    assert "/home" not in text


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(UNCUT))
def test_an_entry_is_rebuilt_with_the_published_weights(name: str) -> None:
    weights = DATA / "weights" / UNCUT[name]
    if not weights.is_file():
        pytest.skip(f"{weights}: no real data here; set ISTHMUS_DATA to its folder")
    network, facts = load_entry(name, weights=weights)
    assert facts["command"]
    shape = (4, network.config.input_height, network.config.input_width, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for width_index in range(len(network.config.widths)):
            codes = network.codes(images, width_index)
            assert codes.float().std() > 0.5
            assert torch.isfinite(network.logits(codes)).all()
