"""What a split network is made of, as plain facts that travel in its checkpoint.

Decides which combinations make sense. Knows nothing of torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.runtime.errors import ArtifactError, PlanError

# Every latent channel rests at the middle of the byte: the code is signed, an absent channel exactly zero.
ZERO_POINT = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitConfig:
    """The facts from which a `SplitNetwork` is rebuilt.

    Attributes:
        model: Reference of the uncut network, as `make_model` takes it.
        cut: Module path whose output the decoder imitates.
        cut_shape_chw: Shape of that output for one image.
        labels: Class names, index = class.
        input_height, input_width, input_channels: The uint8 image a head takes.
        mean, std: Normalisation per input channel, on pixels scaled to [0, 1].
        widths: Compute fractions in (0, 1], ascending; the last is 1.
        channels: Latent channels C.
        channel_counts: Prefix lengths offered as operating points, ascending; the last is `channels`.
        latent_height, latent_width: The latent's plane.
        encoder_stages: One (channels at width 1, blocks) per stage, for families whose encoder is free.
        decoder_channels: Hidden channels of the decoder at the latent's resolution.
        decoder_blocks: Blocks of the decoder per resolution.
        exit_channels: Hidden channels of the early exit, 0 for none.
        tail_tuned: Whether the layers after the cut were trained along and differ from the teacher's.
        non_negative: Whether the features at the cut are the output of a ReLU.
        later_levels: Module paths after the cut where student and teacher are compared again.
        teacher_digest: First 16 hex digits of the SHA-256 over the teacher's tensors.
        family: The kind of bottleneck, a key of `isthmus.models.families.FAMILIES`.
        structure: The family's own settings that differ from its defaults, by name.

    Raises:
        PlanError: If a field contradicts another.
    """

    model: str
    cut: str
    cut_shape_chw: tuple[int, int, int]
    labels: tuple[str, ...]
    input_height: int
    input_width: int
    input_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    channel_counts: tuple[int, ...]
    latent_height: int
    latent_width: int
    encoder_stages: tuple[tuple[int, int], ...]
    decoder_channels: int
    decoder_blocks: int
    exit_channels: int = 0
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    tail_tuned: bool = False
    non_negative: bool = True
    later_levels: tuple[str, ...] = ()
    teacher_digest: str = ""
    family: str = "slim"
    structure: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        widths, counts = list(self.widths), list(self.channel_counts)
        if not widths or widths != sorted(set(widths)) or widths[0] <= 0 or widths[-1] != 1.0:
            raise PlanError(f"widths {self.widths}: give ascending fractions in (0, 1] that end with 1")
        if not counts or counts != sorted(set(counts)) or counts[0] < 1 or counts[-1] != self.channels:
            raise PlanError(
                f"channel counts {self.channel_counts}: give ascending counts from 1 "
                f"that end with {self.channels}"
            )
        if not (len(self.mean) == len(self.std) == self.input_channels) or min(self.std) <= 0:
            raise PlanError(
                f"mean {self.mean} and std {self.std}: give {self.input_channels} values each, std above 0"
            )
        if len(self.labels) < 2:
            raise PlanError(f"{len(self.labels)} labels: a classifier needs at least 2")

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SplitConfig:
        """Rebuild a config from `to_dict` values, after JSON or a checkpoint.

        Raises:
            ArtifactError: If a field is missing or unknown.
            PlanError: If a field contradicts another.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(values) - known:
            raise ArtifactError(f"checkpoint config has unknown fields {sorted(unknown)}; train again")
        try:
            return cls(**{name: _tupled(value) for name, value in values.items()})
        except TypeError as error:
            raise ArtifactError(f"checkpoint config is incomplete: {error}; train again") from None


def _tupled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _tupled(item) for name, item in value.items()}
    return tuple(_tupled(item) for item in value) if isinstance(value, (list, tuple)) else value


def scaled_channels(full: int, width: float) -> int:
    """Return the hidden channels of a layer of `full` channels at `width`, a multiple of 4 and at least 4."""
    return max(4, 4 * round(full * width / 4))
