from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from isthmus.models.zoo.packing import pack, unpack


def state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn((6, 3, 3, 3), generator=generator),
        "bias": torch.randn(6, generator=generator),
        "count": torch.tensor(7),
    }


def test_values_come_back_matrices_in_16_bits_vectors_as_they_were() -> None:
    given_state = state()
    arrays = pack(given_state)
    assert arrays["weight"].dtype == np.float16
    back = unpack(arrays, given_state)
    assert torch.equal(back["bias"], given_state["bias"])
    assert torch.equal(back["count"], given_state["count"])
    assert torch.equal(back["weight"], given_state["weight"].half().float())
    assert not torch.equal(back["weight"], given_state["weight"])


def test_large_matrices_have_8_bits_per_row() -> None:
    large = {"weight": torch.randn((40, 2500), generator=torch.Generator().manual_seed(0))}
    arrays = pack(large)
    assert sorted(arrays) == ["weight+8", "weight+scale"]
    step = torch.from_numpy(arrays["weight+scale"])[:, None]
    assert ((unpack(arrays, large)["weight"] - large["weight"]).abs() <= 0.51 * step).all()


def test_what_16_bits_cannot_hold_stays_in_32() -> None:
    large = {"weight": torch.full((2, 2), 1e6)}
    assert torch.equal(unpack(pack(large), large)["weight"], large["weight"])


def test_a_difference_has_8_bits_per_row_and_nothing_is_stored_twice() -> None:
    known = state()
    tuned = {name: tensor.clone() for name, tensor in known.items()}
    tuned["weight"] += 0.01 * torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    tuned["weight"][2] = known["weight"][2]
    arrays = pack(tuned, known)
    assert sorted(arrays) == ["weight+8", "weight+scale"]
    back = unpack(arrays, tuned, known)
    step = torch.from_numpy(arrays["weight+scale"])[:, None, None, None]
    assert ((back["weight"] - tuned["weight"]).abs() <= 0.51 * step + 1e-6).all()
    assert torch.equal(back["weight"][2], known["weight"][2])
    assert torch.equal(back["bias"], known["bias"])
    assert pack(known, known) == {}


@settings(max_examples=40)
@given(st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4), st.floats(0, 2**-7, width=32))
@example(values=[0.0] * 4, added=1.401298464324817e-45)
@example(values=[0.0] * 4, added=2.1e-43)
def test_any_difference_comes_back_within_half_a_step(values: list[float], added: float) -> None:
    known = {"w": torch.tensor(values).reshape(2, 2), "v": torch.tensor(values)}
    tuned = {name: tensor + added for name, tensor in known.items()}
    back = unpack(pack(tuned, known), tuned, known)
    for name in known:
        largest = float((tuned[name] - known[name]).abs().max())
        error = float((back[name] - tuned[name]).abs().max())
        assert error <= largest / 254 + 2e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("bias"), "lacks bias"),
        (lambda arrays: arrays.update(other=np.zeros(2)), r"unknown \['other'\]"),
        (lambda arrays: arrays.update(bias=np.zeros(5)), r"bias has shape \(5,\), expected \(6,\)"),
        (
            lambda arrays: arrays.update({"bias+8": np.zeros(6, np.int8)}) or arrays.pop("bias"),
            "lacks the scales of bias",
        ),
    ],
)
def test_arrays_that_do_not_fit(change: Any, message: str) -> None:
    arrays = pack(state())
    change(arrays)
    with pytest.raises(ValueError, match=message):
        unpack(arrays, state())
