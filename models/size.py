"""How large a bottleneck is asked to be, before a cut and images fix the rest.

Knows nothing of torch. What a field means beyond its words is the family's affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

StructureValue = str | int | float | bool | tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BottleneckSize:
    """The size and kind of a bottleneck. Families of a fixed structure take no notice of some of it.

    Attributes:
        family: Which kind of bottleneck, a key of `isthmus.models.families.FAMILIES`.
        channels: Latent channels.
        channel_counts: Prefixes offered as operating points; None for an eighth, a quarter, a half and all.
        encoder: (channels at width 1, blocks) per stage, of stride 2 where `structure` has no strides.
        decoder_channels, decoder_blocks: Of the server's side.
        exit_channels: Of the early exit, 0 for none.
        widths: Compute fractions of the encoder.
        structure: What else the family lets one choose, by name; what is left out keeps its default.
    """

    family: str = "slim"
    channels: int = 16
    channel_counts: tuple[int, ...] | None = None
    encoder: tuple[tuple[int, int], ...] = ((48, 1), (96, 1))
    decoder_channels: int = 128
    decoder_blocks: int = 2
    exit_channels: int = 64
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    structure: Mapping[str, StructureValue] = field(default_factory=dict)

    def counts(self) -> tuple[int, ...]:
        """Return the prefix lengths offered."""
        if self.channel_counts is not None:
            return self.channel_counts
        return tuple(sorted({max(1, self.channels // part) for part in (8, 4, 2, 1)}))
