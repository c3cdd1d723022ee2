import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.models.config import SplitConfig, scaled_channels
from isthmus.runtime.errors import ArtifactError, PlanError


def _config(**changes: object) -> SplitConfig:
    values: dict[str, object] = {
        "model": "digits-cnn",
        "cut": "stage2",
        "cut_shape_chw": (32, 4, 4),
        "labels": ("a", "b"),
        "input_height": 16,
        "input_width": 16,
        "input_channels": 1,
        "mean": (0.5,),
        "std": (0.5,),
        "channels": 8,
        "channel_counts": (1, 2, 8),
        "latent_height": 4,
        "latent_width": 4,
        "encoder_stages": ((8, 1), (8, 0)),
        "decoder_channels": 16,
        "decoder_blocks": 1,
    }
    return SplitConfig(**{**values, **changes})  # type: ignore[arg-type]


def test_a_config_survives_json() -> None:
    config = _config(later_levels=("stage3",), widths=(0.5, 1.0))
    assert SplitConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (0.5, 0.25, 1.0)}, "ascending"),
        ({"widths": (0.25, 0.5)}, "end with 1"),
        ({"widths": (0.0, 1.0)}, r"\(0, 1\]"),
        ({"channel_counts": (2, 4)}, "end with 8"),
        ({"channel_counts": (0, 8)}, "from 1"),
        ({"channel_counts": (4, 2, 8)}, "ascending"),
        ({"mean": (0.5, 0.5)}, "1 values each"),
        ({"std": (0.0,)}, "above 0"),
        ({"labels": ("a",)}, "1 labels"),
    ],
)
def test_a_contradiction_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        _config(**changes)


def test_a_missing_or_unknown_field_is_refused() -> None:
    values = _config().to_dict()
    with pytest.raises(ArtifactError, match="unknown fields \\['colour'\\]"):
        SplitConfig.from_dict({**values, "colour": 1})
    del values["cut"]
    with pytest.raises(ArtifactError, match=r"incomplete.*cut"):
        SplitConfig.from_dict(values)


def test_a_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _config().cut = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("full", "width", "channels"), [(48, 0.25, 12), (48, 1.0, 48), (8, 0.25, 4), (4, 0.1, 4)]
)
def test_scaled_channels(full: int, width: float, channels: int) -> None:
    assert scaled_channels(full, width) == channels


@given(full=st.integers(4, 512), narrow=st.floats(0.01, 1.0), wide=st.floats(0.01, 1.0))
def test_scaled_channels_grow_with_width(full: int, narrow: float, wide: float) -> None:
    low, high = sorted((narrow, wide))
    assert 4 <= scaled_channels(full, low) <= scaled_channels(full, high)
    assert scaled_channels(full, low) % 4 == 0
