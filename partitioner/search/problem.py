"""What a search is asked: the link, the device's power, what may cross, what has to hold, what is sought.

Facts only; each refuses nonsense when it is made. The arithmetic is in `scoring`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from isthmus.partitioner.search.graph import SearchGraph, check_cost
from isthmus.runtime.errors import InputError, PlanError

ObjectiveKind = Literal["latency", "energy", "weighted", "throughput", "on-time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawInput:
    """One way to send an input of the network.

    Attributes:
        encoding: `uint8`, `jpeg q90`, or the input's own type where it is no image.
        nbytes: Bytes of one sample.
        encode_s: Device seconds to encode it.
        decode_s: Server seconds to decode it.
        encode_j: Device joules to encode it.

    Raises:
        InputError: If a number is negative, infinite or NaN.
    """

    encoding: str
    nbytes: int
    encode_s: float = 0
    decode_s: float = 0
    encode_j: float = 0

    def __post_init__(self) -> None:
        for name in ("nbytes", "encode_s", "decode_s", "encode_j"):
            check_cost(f"input sent as {self.encoding!r}", name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link whose rate is one of several, each with its probability; a rate of 0 is a dead link.

    Attributes:
        rates: Pairs of probability and bytes per second.
        rtt_s: Seconds of a round trip, paid once by every frame that needs the server.

    Raises:
        InputError: If the probabilities do not sum to 1, or a number is negative, infinite or NaN.
    """

    rates: tuple[tuple[float, float], ...]
    rtt_s: float

    def __post_init__(self) -> None:
        check_cost("link", "rtt_s", self.rtt_s)
        for probability, rate in self.rates:
            check_cost("link", "probability", probability)
            check_cost("link", "rate_bytes_per_s", rate)
        total = sum(probability for probability, _ in self.rates)
        if abs(total - 1) > 1e-9:
            raise InputError(f"link: the probabilities of its rates sum to {total}, not to 1")

    @classmethod
    def constant(cls, rate_bytes_per_s: float, rtt_s: float) -> Link:
        """Return a link of one rate.

        Raises:
            InputError: If a number is negative, infinite or NaN.
        """
        return cls(rates=((1, rate_bytes_per_s),), rtt_s=rtt_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePower:
    """What the device draws beside computing; above idle or in all, as `SearchNode.device_j` counts.

    Attributes:
        idle_w: Watts while it waits for the link and the server.
        transmit_w: Watts of transmitting, on top of `idle_w`.
        joules_per_byte: Joules of a byte sent, for radios that are known by that.

    Raises:
        InputError: If a number is negative, infinite or NaN.
    """

    idle_w: float = 0
    transmit_w: float = 0
    joules_per_byte: float = 0

    def __post_init__(self) -> None:
        for name in ("idle_w", "transmit_w", "joules_per_byte"):
            check_cost("device power", name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What to minimise.

    Attributes:
        kind: `latency`: expected seconds from capture to answer. `energy`: expected joules of the device.
            `weighted`: `alpha` times the latency plus `beta` times the energy. `throughput`: seconds between
            two frames of a full pipeline, the longest of device, transfer and server. `on-time`: the
            probability of missing the deadline.
        alpha, beta: For `weighted`.

    Raises:
        InputError: If a weight is negative, infinite or NaN, or both are 0.
    """

    kind: ObjectiveKind
    alpha: float = 1
    beta: float = 1

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            check_cost("objective", name, getattr(self, name))
        if self.alpha == self.beta == 0:
            raise InputError("objective: alpha and beta are both 0, every split would be as good; raise one")

    @property
    def name(self) -> str:
        """Its name in `Found.best`."""
        return f"{self.alpha}*latency+{self.beta}*energy" if self.kind == "weighted" else self.kind


LATENCY = Objective(kind="latency")
ENERGY = Objective(kind="energy")
THROUGHPUT = Objective(kind="throughput")
ON_TIME = Objective(kind="on-time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a split has to keep.

    Attributes:
        device_memory_bytes: Most bytes of weights and live tensors on the device, or None.
        deadline_s: Most seconds from capture to answer, or None.
        deadline_probability: How likely the deadline has to be kept, in (0, 1], over the link's rates.
        no_raw_input: No input of the network may leave the device. A rule, not a proof of privacy: features
            can tell much about an image.
        allowed_cuts: The sets of tensors that may cross where both machines run nodes, or None for all. All
            on the device and all on the server are not restricted by it.

    Raises:
        InputError: If a number makes no sense.
    """

    device_memory_bytes: int | None = None
    deadline_s: float | None = None
    deadline_probability: float = 0.95
    no_raw_input: bool = False
    allowed_cuts: frozenset[frozenset[str]] | None = None

    def __post_init__(self) -> None:
        if self.device_memory_bytes is not None:
            check_cost("constraint", "device_memory_bytes", self.device_memory_bytes)
        if self.deadline_s is not None and not 0 < self.deadline_s < math.inf:
            raise InputError(f"constraint: deadline {self.deadline_s} s is not above 0")
        if not 0 < self.deadline_probability <= 1:
            raise InputError(f"constraint: deadline_probability {self.deadline_probability} is not in (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """A learned encoder and decoder at a cut: a candidate of its own.

    Attributes:
        name: What to call it.
        cut: All tensors that cross at its place; the decoder restores them.
        encoder_s: Device seconds of the encoder.
        decoder_s: Server seconds of the decoder; the nodes behind the cut come on top.
        nbytes: Bytes of a payload.
        accuracy: Measured accuracy with it, or None where nobody has trained it yet.
        encoder_j: Device joules of the encoder.
        memory_bytes: Bytes of the encoder's weights and live tensors.
        keeps_head: Whether the encoder follows the nodes before the cut; else it replaces them.

    Raises:
        InputError: If a number is negative, infinite or NaN.
        PlanError: If the cut is empty.
    """

    name: str
    cut: frozenset[str]
    encoder_s: float
    decoder_s: float
    nbytes: int
    accuracy: float | None = None
    encoder_j: float = 0
    memory_bytes: int = 0
    keeps_head: bool = False

    def __post_init__(self) -> None:
        where = f"bottleneck {self.name!r}"
        for name in ("encoder_s", "decoder_s", "nbytes", "encoder_j", "memory_bytes"):
            check_cost(where, name, getattr(self, name))
        if self.accuracy is not None:
            check_cost(where, "accuracy", self.accuracy)
        if not self.cut:
            raise PlanError(f"{where}: its cut is empty; name the tensors that cross there")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchProblem:
    """Everything a search needs.

    Attributes:
        graph: The network.
        link: Between device and server.
        power: Of the device.
        raw: The ways to send each input of the network, by its name; one that is missing is sent as it is.
        constraints: What has to hold.
        bottlenecks: Candidates beside the plain splits.
        accuracy: Of the whole network, or None where it is unknown.

    Raises:
        PlanError: If a name is not one of the graph's tensors, or not an input where an input is needed.
        InputError: If an input has no way to be sent, or the accuracy makes no sense.
    """

    graph: SearchGraph
    link: Link
    power: DevicePower = field(default_factory=DevicePower)
    raw: Mapping[str, tuple[RawInput, ...]] = field(default_factory=dict)
    constraints: Constraints = field(default_factory=Constraints)
    bottlenecks: tuple[Bottleneck, ...] = ()
    accuracy: float | None = None

    def __post_init__(self) -> None:
        if self.accuracy is not None:
            check_cost("network", "accuracy", self.accuracy)
        tensors = {tensor.name: tensor for tensor in self.graph.tensors}
        for name, ways in self.raw.items():
            if name not in tensors or tensors[name].producer is not None:
                raise PlanError(f"raw input {name!r} is no input of the network")
            if not ways:
                raise InputError(f"raw input {name!r} has no way to be sent; give at least one")
        cuts = [(f"bottleneck {item.name!r}", item.cut) for item in self.bottlenecks]
        cuts += [("allowed cut", cut) for cut in sorted(self.constraints.allowed_cuts or (), key=sorted)]
        for where, cut in cuts:
            for name in sorted(cut):
                if name not in tensors:
                    raise PlanError(f"{where}: no tensor {name!r} in the graph")
