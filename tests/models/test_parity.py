from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.models.parity import check_latents, check_logits
from isthmus.models.quantise import Quantise
from isthmus.runtime.errors import GateError

IMAGES = np.random.default_rng(0).integers(0, 250, (8, 16, 16, 1), dtype=np.uint8)


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float() * 2


class Answers:
    """An exported network that answers what it is told."""

    name = "net.onnx"

    def __init__(self, output: NDArray[Any]) -> None:
        self.output = output

    def run(self, _value: NDArray[np.uint8]) -> NDArray[Any]:
        return self.output


def check(kind: Any, module: nn.Module, output: NDArray[Any]) -> Any:
    return kind(module, Answers(output), IMAGES)


def test_equal_latents_pass_and_are_returned() -> None:
    assert check(check_latents, nn.Identity(), IMAGES) is IMAGES


def test_where_codes_are_further_apart_a_level_is_a_step() -> None:
    signs = nn.Identity()
    signs.step = 2  # type: ignore[assignment]
    altered = IMAGES.copy()
    altered.reshape(-1)[0] += 2
    check(check_latents, nn.Sequential(signs), altered)
    altered.reshape(-1)[0] += 1
    with pytest.raises(GateError, match=r"by up to 3 levels \(allowed: 0.1% by 2\)"):
        check(check_latents, nn.Sequential(signs), altered)


def test_one_level_in_a_thousand_symbols_passes_more_does_not() -> None:
    altered = IMAGES.copy()
    altered.reshape(-1)[:2] += 1  # of 2048
    check(check_latents, nn.Identity(), altered)
    altered.reshape(-1)[:3] = IMAGES.reshape(-1)[:3] + 1
    with pytest.raises(
        GateError, match=r"net\.onnx: 0\.15% of the symbols differ from torch, by up to 1 levels"
    ):
        check(check_latents, nn.Identity(), altered)
    altered = IMAGES.copy()
    altered.reshape(-1)[0] += 2
    with pytest.raises(GateError, match="by up to 2 levels"):
        check(check_latents, nn.Identity(), altered)


def test_a_symbol_may_differ_only_at_the_edge_between_two_levels() -> None:
    class Reals(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 3, 1, 2).float() / 2

    head = nn.Sequential(Reals(), Quantise(torch.tensor([0.5])))  # every other pair of pixels is at an edge
    codes = head(torch.from_numpy(IMAGES)).numpy()
    at_edge = np.argwhere(IMAGES[..., 0] == 6)[0]  # 1.5 levels: rounds to 2, the other engine says 1
    altered = codes.copy()
    altered[at_edge[0], 0, at_edge[1], at_edge[2]] = 129
    check(check_latents, head, altered)
    elsewhere = np.argwhere(IMAGES[..., 0] == 5)[0]
    altered[elsewhere[0], 0, elsewhere[1], elsewhere[2]] += 1
    with pytest.raises(GateError, match=r"net\.onnx: a symbol differs from torch where its real value is"):
        check(check_latents, head, altered)


def test_latents_of_another_shape_or_type() -> None:
    with pytest.raises(GateError, match="gives uint8"):
        check(check_latents, nn.Identity(), IMAGES[:, :8])
    with pytest.raises(GateError, match="gives float32"):
        check(check_latents, nn.Identity(), IMAGES.astype(np.float32))


def test_logits_have_a_relative_tolerance() -> None:
    logits = IMAGES.astype(np.float32) * 2
    check(check_logits, Doubled(), logits * (1 + 5e-5))
    with pytest.raises(GateError, match=r"logits differ from torch by 0\.0002 of their range"):
        check(check_logits, Doubled(), logits * (1 + 2e-4))
    logits[0] = np.nan
    with pytest.raises(GateError, match="by nan"):
        check(check_logits, Doubled(), logits)


def test_logits_of_torch_must_be_finite() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 3), float("inf"))

    with pytest.raises(GateError, match="finite numbers expected"):
        check(check_logits, Broken(), np.zeros((8, 3), np.float32))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_answers_that_do_not_vary_prove_nothing(value: float) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 3), value)

    with pytest.raises(GateError, match="answers every one of 8 images alike; train the network first"):
        check(check_logits, Constant(), np.full((8, 3), value, np.float32))
