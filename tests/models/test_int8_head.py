from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from isthmus.models.int8_head import ENTRIES, Entry, write_int8_head
from isthmus.models.network import Normalise, SplitNetwork
from isthmus.models.quantise import Quantise
from isthmus.runtime.bundle.networks import Network
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import InputError


def exported(head: nn.Module, images: NDArray[np.uint8], file: Path, entry: Entry) -> NDArray[Any]:
    write_int8_head(head, images, file, entry=entry)
    return Network(file.name, file.read_bytes(), threads=1).run(images)


@pytest.mark.parametrize("entry", ENTRIES)
def test_codes_stay_close_to_those_of_32_bits(
    entry: Entry, calibrated: SplitNetwork, quarters: ImageSet, tmp_path: Path
) -> None:
    head = calibrated.materialise_head(3)
    codes = exported(head, quarters.images, tmp_path / "head.onnx", entry).astype(int)
    with torch.no_grad():
        expected = head(torch.from_numpy(quarters.images)).numpy().astype(int)
    assert codes.shape == expected.shape
    assert expected.std() > 3, "the latents are lively"
    # Integers of 7 and 8 bits leave an error of the order of a level, not of the latent.
    assert np.sqrt(((codes - expected) ** 2).mean()) < 0.15 * expected.std()
    assert np.abs(codes.mean() - expected.mean()) < 0.2


@pytest.mark.parametrize("entry", ENTRIES)
def test_convolutions_become_integers_and_the_rounding_is_the_last_pair(
    entry: Entry, calibrated: SplitNetwork, quarters: ImageSet, tmp_path: Path
) -> None:
    file = tmp_path / "head.onnx"
    write_int8_head(calibrated.materialise_head(3), quarters.images, file, entry=entry)
    model = onnx.load(file)
    kinds = [node.op_type for node in model.graph.node]
    assert not {"Round", "Mul", "Sub"} & set(kinds) or entry == "float"
    assert "Round" not in kinds
    assert kinds[-1] == "QuantizeLinear"
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    largest = max(int(np.abs(onnx.numpy_helper.to_array(w).astype(int)).max()) for w in weights)
    assert largest <= 64, "seven bits: no processor saturates"
    in_float = sum(
        len(tensor.dims) == 4 and tensor.data_type == onnx.TensorProto.FLOAT
        for tensor in model.graph.initializer
    )
    assert in_float == (0 if entry == "bytes" else 3), "first weights, gain and offset"
    (given,), (output,) = model.graph.input, model.graph.output
    assert (given.name, output.name) == ("image", "latent")
    assert (given.type.tensor_type.elem_type, output.type.tensor_type.elem_type) == (2, 2)
    assert not model.metadata_props


def test_the_image_enters_exactly_and_the_codes_leave_by_the_same_scale(tmp_path: Path) -> None:
    first, last = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    for conv in (first, last):
        nn.init.constant_(conv.weight, 1.0)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    # One level of the latent is one level of the image: whatever is not exact would show.
    head = nn.Sequential(
        Normalise([100 / 255], [1 / 255]), nn.Sequential(first, last), Quantise(torch.tensor([1.0]))
    ).requires_grad_(False)
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    codes = exported(head, images, tmp_path / "head.onnx", "bytes")
    expected = np.clip(images.astype(int).transpose(0, 3, 1, 2) - 100 + 128, 0, 255)
    np.testing.assert_array_equal(codes, expected)


def test_files_are_reproduced(calibrated: SplitNetwork, quarters: ImageSet, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_int8_head(calibrated.materialise_head(0), quarters.images, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def _scaled() -> nn.Module:
    return Quantise(torch.ones(1))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), "its last layer is a ReLU"),
        (lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 1)), "its first layer is a ReLU"),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")),
            "its first layer is a Conv2d, not a plain",
        ),
        (lambda: nn.Conv2d(1, 1, 1), "does not consist of"),
    ],
)
def test_heads_that_cannot_be_written(make: Callable[[], nn.Module], reason: str, tmp_path: Path) -> None:
    head = nn.Sequential(Normalise([0.5], [0.5]), make(), _scaled())
    with pytest.raises(InputError, match=reason):
        write_int8_head(head, np.zeros((2, 8, 8, 1), np.uint8), tmp_path / "head.onnx")
    assert list(tmp_path.iterdir()) == []
