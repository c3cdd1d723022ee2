"""What enters a decision: tensors, machines, a link, measured costs, and what is assumed.

Facts only: each validates itself where it is read or made by `partition`, none computes. Knows nothing of
ONNX.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import NetworkCosts, Power, Source

# Costs are part of a machine's profile; a plan quotes them.
CostTable = NetworkCosts

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class TensorFact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor of the graph, for one sample.

    Attributes:
        name: Its name in the ONNX graph.
        dtype: numpy's name of its element type, e.g. `float32`; `unknown` where inference has none.
        shape: Its shape with a batch of one, or None where it depends on the values.
        nbytes: Bytes of one sample as they stand in memory, or None with an unknown shape or type.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    nbytes: Count | None

    @property
    def elements(self) -> int:
        """The number of elements of one sample; 0 where the shape is unknown."""
        return 0 if self.shape is None else math.prod(self.shape)


class DeviceProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """This machine, or one that is told by how much faster it is than this one.

    Attributes:
        name: What to call it.
        threads: Threads of one inference.
        speed: Its speed divided by this machine's: 1 is this machine itself, 0.1 is ten times slower. Times
            at any other speed than 1 are scaled, and the plan says so.

    Raises:
        InputError: If `threads` or `speed` is not above 0.
    """

    name: str = "this machine"
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    speed: Annotated[float, msgspec.Meta(gt=0)] = 1.0

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"{self.name}: {self.threads} threads; give at least 1")
        if not 0 < self.speed < math.inf:
            raise InputError(f"{self.name}: speed {self.speed} is not above 0; 0.1 means ten times slower")


class MachineFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine of a plan, and where its times come from.

    Attributes:
        name: What it is called.
        here: Whether it is the machine that made the plan, at `speed`; else it is known by its profile.
        source: Of this network's times on it: `measured` on it, `published`, or `scaled` (estimated from its
            speeds, or measured here and divided by `speed`).
        origin: One sentence on how its times came about.
        processor, backend: As its profile or this machine names them.
        threads: Threads of one inference, or None where nobody says.
        speed: Its speed divided by this machine's; 1 where its own times are known.
        memory_bytes: Memory that a network may use, or None where unknown.
        power: What it draws, or None where unknown.
    """

    name: str
    here: bool
    source: Source
    origin: str
    processor: str
    backend: str
    threads: Annotated[int, msgspec.Meta(ge=1)] | None
    speed: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    memory_bytes: Count | None = None
    power: Power | None = None


class LinkTrace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A link's rate over time, as a plan quotes it.

    Attributes:
        name: What the trace was loaded from.
        duration_s: Seconds until it repeats.
        dead_share: Share of the time in which nothing crosses.
        quantiles: (share of the time, bytes per second): the rate is at most this for this share.
    """

    name: str
    duration_s: Annotated[float, msgspec.Meta(gt=0)]
    dead_share: Fraction
    quantiles: tuple[tuple[Fraction, Annotated[float, msgspec.Meta(ge=0)]], ...]


class LinkProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A link. A rate of 0 is a dead link: nothing that has to cross it ever arrives.

    Attributes:
        rate_bytes_per_s: Its rate; of a trace the mean over time.
        rtt_s: Seconds of a round trip, paid once by every frame that needs the server.
        trace: The rate over time, where it is not constant.

    Raises:
        InputError: If the rate or the RTT is negative or not finite.
    """

    rate_bytes_per_s: Annotated[float, msgspec.Meta(ge=0)]
    rtt_s: Seconds
    trace: LinkTrace | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rate_bytes_per_s < math.inf:
            raise InputError(
                f"link: rate {self.rate_bytes_per_s} bytes/s is not 0 or more; give it as e.g. 1.5Mbit"
            )
        if not 0 <= self.rtt_s < math.inf:
            raise InputError(f"link: RTT {self.rtt_s} s is not 0 or more; give it as e.g. 20ms")


class BottleneckAssumption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bottleneck that nobody has trained yet is assumed to cost; candidates built on it say so.

    Attributes:
        encoder_fraction: Device time of the encoder, as a fraction of the head that it replaces. Published
            encoders need less (BottleFit, arXiv 2201.02693: 119 MMAC where the head of ResNet-152 up to
            `layer2` needs 2,690).
        decoder_fraction: Server time of the decoder, as a fraction of that same head on the server
            (BottleFit's: about 1).
        compression: Payload as a fraction of the cut tensor at one byte an element.
        max_raw_fraction: The payload is assumed never to exceed this fraction of the raw input's bytes: a
            latent carries what the task needs, however many channels the tensor has that it stands for.
        payload_bytes: The payload itself; overrides both fractions.

    Raises:
        InputError: If a fraction is not one, or the payload is empty.
    """

    encoder_fraction: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1 / 3
    decoder_fraction: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.5
    compression: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1 / 16
    max_raw_fraction: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1 / 6
    payload_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        for name in ("encoder_fraction", "compression", "max_raw_fraction"):
            value = getattr(self, name)
            if not 0 < value <= (10 if name == "encoder_fraction" else 1):
                raise InputError(f"bottleneck assumption: {name} {value} is not a positive fraction")
        if not 0 <= self.decoder_fraction <= 10:
            raise InputError(
                f"bottleneck assumption: decoder_fraction {self.decoder_fraction} is not a fraction"
            )
        if self.payload_bytes is not None and self.payload_bytes < 1:
            raise InputError(f"bottleneck assumption: {self.payload_bytes} payload bytes; give at least 1")


class BottleneckRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a bottleneck may stand: its costs are assumed, and the rules ask what that assumption needs.

    Attributes:
        min_side: Least height and width of the feature map. A smaller one is nearly a vector: a convolutional
            code has no neighbourhood left to save on.
        min_head_share: Least share of the network's time in the head that is replaced. Before that point the
            encoder has no compute to compress with, and the decoder would have to restore the image
            (published bottlenecks replace 20 to 25 %).
        min_tail_share: Least share that is left to the server. Past that point the device has nearly the
            whole network's work in its features and may as well finish.
        encoder_budget_s: Most device seconds of the encoder, or None for no such limit.
        tolerance: Totals this close to the best count as equal, because the encoder is assumed and not
            measured; of equals the smallest tensor wins (the decoder has least to restore), then the deepest.

    Raises:
        InputError: If a side, share, budget or tolerance is out of range.
    """

    min_side: Annotated[int, msgspec.Meta(ge=1)] = 4
    min_head_share: Fraction = 0.2
    min_tail_share: Fraction = 0.25
    encoder_budget_s: Seconds | None = None
    tolerance: Annotated[float, msgspec.Meta(ge=0)] = 0.1

    def __post_init__(self) -> None:
        if self.min_side < 1:
            raise InputError(f"bottleneck rules: min_side {self.min_side}; give at least 1")
        for name in ("min_head_share", "min_tail_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"bottleneck rules: {name} {getattr(self, name)} is not in [0, 1]")
        for name in ("encoder_budget_s", "tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"bottleneck rules: {name} {value} is not 0 or more")
