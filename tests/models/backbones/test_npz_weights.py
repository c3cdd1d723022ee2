import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from isthmus.models.backbones import MODELS, load_weights, make_model
from isthmus.models.network import Normalise
from isthmus.runtime.errors import InputError

DATA = Path(os.environ.get("ISTHMUS_DATA", "../shared/data"))
WEIGHTS, IMAGES = DATA / "weights", DATA / "imagenette224"
# Top-1 on 500 genuine validation images of ten classes, 1000-way.
PUBLISHED = {
    "mobilenet-v2-same": ("imagenet_mobilenet_v2/mobilenet_v2_i8perchannel.npz", 0.688),
    "proxyless-w0.3": ("imagenet_proxyless/proxyless-w0.3-r176_imagenet.pth", 0.534),
    "squeezenet1.0": ("imagenet_squeezenet/squeezenet_dc_fp32.npz", 0.576),
}


def _accuracy(network: nn.Module, side: int, count: int) -> float:
    """Top-1 of `count` validation images, evenly over the classes; scaled to cover and cropped as usual."""
    classes = {
        row["wnid"]: int(row["imagenet_class_index"])
        for row in csv.DictReader((IMAGES / "classes.csv").read_text().splitlines())
    }
    files = sorted((IMAGES / "val").glob("*/*"))
    files = [files[index * len(files) // count] for index in range(count)]
    hits = 0
    for start in range(0, count, 25):
        batch = files[start : start + 25]
        pixels = torch.from_numpy(np.stack([_image(file, side) for file in batch]))
        with torch.inference_mode():
            best = network(pixels).argmax(1)
        hits += sum(int(top) == classes[file.parent.name] for top, file in zip(best, batch, strict=True))
    return hits / count


def _image(file: Path, side: int) -> Any:
    image = Image.open(file).convert("RGB")
    shorter = int(side / 0.875)
    scale = shorter / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


@pytest.mark.data
@pytest.mark.skipif(not IMAGES.exists(), reason=f"{IMAGES} is not here; set ISTHMUS_DATA")
@pytest.mark.parametrize("ref", PUBLISHED)
def test_published_weights_reach_their_accuracy(ref: str) -> None:
    file, expected = PUBLISHED[ref]
    backbone = MODELS[ref]
    network = make_model(ref, 1000, 3).eval()
    load_weights(network, WEIGHTS / file)
    side, count = backbone.shape_hwc[0], 100
    found = _accuracy(nn.Sequential(Normalise(backbone.mean, backbone.std), network), side, count)
    # 100 images leave two and a half standard errors of about 12 points either way.
    assert abs(found - expected) < 0.12


def _folded(rng: np.random.Generator) -> dict[str, Any]:
    network = make_model("mobilenet-v2-same", 1000, 3)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    arrays: dict[str, Any] = {}
    shapes = [tuple(layer.weight.shape) for layer in layers] + [(1001, 1280, 1, 1)]
    for index, shape in enumerate(shapes):
        arrays[f"{index:02}.weight_i8"] = rng.integers(-9, 9, shape).astype(np.int8)
        arrays[f"{index:02}.scale"] = rng.uniform(0.1, 1, shape[0]).astype(np.float32)
        arrays[f"{index:02}.bias"] = rng.standard_normal(shape[0]).astype(np.float32)
    steps = [{"op": "conv", "name": f"{index:02}"} for index in range(len(shapes))]
    return {**arrays, "program": np.array(json.dumps([*steps, {"op": "mean"}]))}


def test_int8_weights_become_convolutions_with_a_bias(tmp_path: Path) -> None:
    arrays = _folded(np.random.default_rng(0))
    np.savez(tmp_path / "weights.npz", **arrays)
    network = make_model("mobilenet-v2-same", 1000, 3).eval()
    load_weights(network, tmp_path / "weights.npz")
    # The second layer, depthwise, by hand.
    block = network.get_submodule("features.1.conv.0")
    x = torch.randn(1, 32, 5, 5, generator=torch.Generator().manual_seed(0))
    weight = torch.from_numpy(
        arrays["01.weight_i8"].astype(np.float32) * arrays["01.scale"].reshape(-1, 1, 1, 1)
    )
    expected = nn.functional.conv2d(x, weight, torch.from_numpy(arrays["01.bias"]), padding=1, groups=32)
    assert torch.allclose(block(x), expected.clamp(0, 6), atol=1e-5)
    # The first of 1001 outputs, "background", is left out.
    assert np.array_equal(network.state_dict()["classifier.1.bias"].numpy(), arrays["52.bias"][1:])


def test_caffes_blue_comes_first(tmp_path: Path) -> None:
    network = make_model("squeezenet1.0", 1000, 3).eval()
    arrays = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            name = {"features.0": "conv1", "classifier.1": "conv_final"}.get(path)
            if name is None:
                _, number, part = path.split(".")
                fire = {3: 2, 4: 3, 5: 4, 7: 5, 8: 6, 9: 7, 10: 8, 12: 9}[int(number)]
                kinds = {"squeeze": "conv1x1_1", "expand1x1": "conv1x1_2", "expand3x3": "conv3x3_2"}
                name = f"fire{fire}/{kinds[part]}"
            arrays[f"{name}.w"] = module.weight.detach().numpy().copy()
            arrays[f"{name}.b"] = module.bias.detach().numpy().copy()
    np.savez(tmp_path / "weights.npz", **arrays)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(image)
        load_weights(network, tmp_path / "weights.npz")
        assert torch.allclose(network(image.flip(1)), expected, atol=1e-5)
        assert not torch.allclose(network(image), expected, atol=1e-2)


def test_a_state_dict_may_be_arrays(tmp_path: Path) -> None:
    source = make_model("digits-cnn", 4, 1)
    np.savez(tmp_path / "weights.npz", **{name: t.numpy() for name, t in source.state_dict().items()})
    network = make_model("digits-cnn", 4, 1)
    load_weights(network, tmp_path / "weights.npz")
    assert torch.equal(network.state_dict()["linear.weight"], source.state_dict()["linear.weight"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"program": np.array("[]")}, "incomplete weights"),
        ({"program": np.array('[{"op": "conv", "name": "00"}]')}, "incomplete weights .*00.scale"),
        ({"conv_final.w": np.zeros(1), "fire1/conv1x1_1.w": np.zeros(1)}, "incomplete weights"),
        ({"weight": np.zeros(1)}, "does not fit DigitsCnn"),
        ({"weight": np.array([{}], dtype=object)}, "not a file of plain arrays"),
        ({"weight": np.array(["text"])}, "weight is no array of numbers"),
    ],
)
def test_wrong_arrays_are_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "weights.npz", allow_pickle=True, **arrays)
    with pytest.raises(InputError, match=message) as error:
        load_weights(make_model("digits-cnn", 4, 1), tmp_path / "weights.npz")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("junk", [b"", b"junk", b"PK\x03\x04junk"])
def test_junk_and_absence_are_one_line(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "weights.npz").write_bytes(junk)
    with pytest.raises(InputError, match=r"weights.npz: not a file of plain arrays"):
        load_weights(make_model("digits-cnn", 4, 1), tmp_path / "weights.npz")
    with pytest.raises(InputError, match=r"absent.npz: No such file"):
        load_weights(make_model("digits-cnn", 4, 1), tmp_path / "absent.npz")
