"""What may be chosen about a slimmable bottleneck besides its size, and the planes that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from isthmus.models.config import SplitConfig
from isthmus.models.families.structure import check_latent, read_structure
from isthmus.runtime.errors import PlanError

BLOCKS = ("residual", "inverted")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlimStructure:
    """The settings of a slimmable encoder and its decoder.

    Attributes:
        strides: 1 or 2 per stage of the encoder; the first may be 4, the cheapest way down from large images:
            0.2 ms from 224 pixels with a kernel of 7, where gathering 4×4 pixels into channels takes 0.8.
            Empty: 2 everywhere.
        stem_kernel: Size of the first convolution: it sees colour at full resolution, so it is the larger.
        block: "residual" (two dense 3×3 convolutions) or "inverted" (MobileNet's, cheap on a phone's CPU).
        kernel: Of the depthwise convolution in an inverted block.
        expansion: How many times as wide an inverted block is inside.
        decoder_block: Likewise for the decoder; its inverted blocks have the same kernel and expansion.

    Raises:
        PlanError: If a value makes no sense.
    """

    strides: tuple[int, ...] = ()
    stem_kernel: int = 5
    block: str = "residual"
    kernel: int = 3
    expansion: int = 4
    decoder_block: str = "residual"

    def __post_init__(self) -> None:
        for name, block in (("block", self.block), ("decoder_block", self.decoder_block)):
            if block not in BLOCKS:
                raise PlanError(f"{name} {block!r}: give one of {', '.join(BLOCKS)}")
        for name, size in (("stem_kernel", self.stem_kernel), ("kernel", self.kernel)):
            if size not in (1, 3, 5, 7):
                raise PlanError(f"{name} {size}: give 1, 3, 5 or 7")
        if not 1 <= self.expansion <= 16:
            raise PlanError(f"expansion {self.expansion}: give 1 to 16")
        if any(stride not in ((1, 2, 4) if at == 0 else (1, 2)) for at, stride in enumerate(self.strides)):
            raise PlanError(f"strides {self.strides}: give 1 or 2 per stage; only the first may be 4")

    def stage_strides(self, stages: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        """Return the stride of each of `stages`.

        Raises:
            PlanError: If their numbers differ, or there is no stage at all.
        """
        if not stages:
            raise PlanError("a slimmable encoder needs at least one stage, as in 48x1,96x1")
        if self.strides and len(self.strides) != len(stages):
            raise PlanError(f"strides {self.strides}: give one for each of {len(stages)} stages")
        return self.strides or (2,) * len(stages)

    def plane(self, height: int, width: int, stages: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the latent's height and width for images of this size."""
        for stride in self.stage_strides(stages):
            height, width = ceil(height / stride), ceil(width / stride)
        return height, width


_Structure = TypeVar("_Structure", bound=SlimStructure)


def slim_structure(config: SplitConfig) -> SlimStructure:
    """Return the slimmable settings in `config.structure`.

    Raises:
        PlanError: If one is unknown, or they do not lead to the config's latent.
    """
    return slim_structure_of(SlimStructure, config)


def slim_structure_of(kind: type[_Structure], config: SplitConfig) -> _Structure:
    """Return the settings in `config.structure` as `kind`, which extends the slimmable ones.

    Raises:
        PlanError: If one is unknown, or they do not lead to the config's latent.
    """
    structure = read_structure(kind, config.structure, config.family)
    check_latent(config, structure.plane(config.input_height, config.input_width, config.encoder_stages))
    return structure
