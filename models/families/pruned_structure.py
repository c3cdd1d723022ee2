"""The layers of a thinned encoder, as text and as facts: what a structure's `layers` say.

Knows nothing of torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.models.config import SplitConfig, scaled_channels
from isthmus.models.families.structure import check_latent, read_structure
from isthmus.runtime.errors import PlanError

_FORMS = (
    "conv K/S CHANNELS ACTIVATION",
    "pool K/S",
    "residual 3/S CHANNELS [projected]",
    "inverted K/S HIDDEN CHANNELS ACTIVATION",
)
_LAYER = re.compile(
    r"(?P<kind>conv|pool|residual|inverted) (?P<kernel>\d+)/(?P<stride>\d+)(?P<channels>( \d+)*)"
    r"( (?P<word>[a-z]\w*))??( from (?P<source>\S+))?"
)
_CHANNELS = {"conv": 1, "pool": 0, "residual": 1, "inverted": 2}
_WORDS = {
    "conv": ("relu", "relu6", "linear"),
    "pool": (None,),
    "residual": (None, "projected"),
    "inverted": ("relu", "relu6"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One layer of the encoder.

    Attributes:
        kind: "conv" (with norm and activation), "pool" (the largest value), "residual" (two 3×3 convolutions
            around a shortcut) or "inverted" (MobileNetV2's block).
        kernel, stride: Of the convolution, the pool, the first 3×3 or the depthwise convolution.
        channels: Of the output at full width; 0: those of the input.
        hidden: Of the depthwise convolution in an inverted block.
        word: The activation, or "projected" for a residual block whose shortcut is a 1×1 convolution.
        source: Module of the uncut network that `--start teacher` copies; None: it starts at random.
    """

    kind: str
    kernel: int
    stride: int
    channels: int = 0
    hidden: int = 0
    word: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        numbers = [str(number) for number in (self.hidden, self.channels) if number]
        words = [self.word] if self.word else []
        source = ["from", self.source] if self.source else []
        return " ".join([self.kind, f"{self.kernel}/{self.stride}", *numbers, *words, *source])

    @property
    def padding(self) -> int:
        """Pixels added on every side, such that a plane that the stride divides is divided exactly."""
        return (self.kernel - self.stride + 1) // 2

    def plane(self, size: int) -> int:
        """Return the side of the output for an input of `size`."""
        padding = self.kernel // 2 if self.kind in ("inverted", "residual") else self.padding
        return (size + 2 * padding - self.kernel) // self.stride + 1


def parse_layer(text: str) -> LayerSpec:
    """Return the layer that `text` describes.

    Raises:
        PlanError: If it describes none.
    """
    found = _LAYER.fullmatch(" ".join(str(text).split()))
    if found is not None:
        kind, kernel, stride, word = (found[name] for name in ("kind", "kernel", "stride", "word"))
        numbers = [int(number) for number in found["channels"].split()]
        size, step = int(kernel), int(stride)
        if (
            len(numbers) == _CHANNELS[kind]
            and word in _WORDS[kind]
            and all(number >= 4 for number in numbers)
            and 1 <= step <= 4
            and step <= size <= 11
            and not (kind == "residual" and size != 3)
            and not (kind == "inverted" and size % 2 == 0)
        ):
            return LayerSpec(
                kind=kind,
                kernel=size,
                stride=step,
                channels=numbers[-1] if numbers else 0,
                hidden=numbers[0] if kind == "inverted" else 0,
                word=word,
                source=found["source"],
            )
    raise PlanError(f"layer {text!r}: give {'; '.join(_FORMS)}, each followed by [from MODULE]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedStructure:
    """The settings of a thinned encoder.

    Attributes:
        layers: One text per layer, from the image to the latent's projection; see `parse_layer`. Empty: those
            of the uncut network, thinned to `head_share`.
        skipped: For each width, the indices of the layers that it leaves out. Empty: none.
        fractions: For each width, the share of the channels that it keeps. Empty: the widths themselves.
        private: Whether each width has an affine of its own in every norm, and a projection of its own.
        head_share: Of the uncut layers' cost, what the full width may cost; only where `layers` is empty.

    Raises:
        PlanError: If a value makes no sense.
    """

    layers: tuple[str, ...] = ()
    skipped: tuple[tuple[int, ...], ...] = ()
    fractions: tuple[float, ...] = ()
    private: bool = False
    head_share: float = 0.3

    def __post_init__(self) -> None:
        self.specs()
        if not 0.0 < self.head_share <= 1.0:
            raise PlanError(f"head_share {self.head_share:g}: give a share of the uncut layers, as 0.3")
        if any(not 0.0 < fraction <= 1.0 for fraction in self.fractions):
            raise PlanError(f"fractions {self.fractions}: give shares of the channels in (0, 1]")

    def specs(self) -> tuple[LayerSpec, ...]:
        """Return the layers."""
        return tuple(parse_layer(text) for text in self.layers)

    def plane(self, height: int, width: int) -> tuple[int, int]:
        """Return the latent's height and width for images of this size."""
        for spec in self.specs():
            height, width = spec.plane(height), spec.plane(width)
        return height, width

    def check_widths(self, widths: Sequence[float]) -> None:
        """Refuse settings per width that do not fit `widths`.

        Raises:
            PlanError: If there are more or fewer, the last fraction is not 1, or a layer that is left out
                changes the shape of its input.
        """
        for name, values in (("skipped", self.skipped), ("fractions", self.fractions)):
            if values and len(values) != len(widths):
                raise PlanError(f"{name} {values}: give one for each of {len(widths)} widths")
        if self.fractions and self.fractions[-1] != 1.0:
            raise PlanError(f"fractions {self.fractions}: the last width keeps all channels, give 1 for it")
        specs, channels = self.specs(), 0
        keeps = []
        for spec in specs:
            keeps.append(spec.stride == 1 and spec.channels in (0, channels))
            channels = spec.channels or channels
        for index in sorted({index for part in self.skipped for index in part}):
            if not 0 <= index < len(specs) or not keeps[index]:
                raise PlanError(f"skipped layer {index}: only layers that keep the shape can be left out")

    def channels(self, spec: LayerSpec, widths: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return (output channels, hidden channels) of a layer per width index."""
        shares = self.fractions or widths
        return (
            tuple(scaled_channels(spec.channels, share) for share in shares),
            tuple(scaled_channels(spec.hidden, share) for share in shares),
        )


def pruned_structure(config: SplitConfig) -> PrunedStructure:
    """Return the thinned encoder's settings in `config.structure`.

    Raises:
        PlanError: If one is unknown, they contradict the widths, or they do not lead to the config's latent.
    """
    structure = read_structure(PrunedStructure, config.structure, config.family)
    structure.check_widths(config.widths)
    check_latent(config, structure.plane(config.input_height, config.input_width))
    return structure
