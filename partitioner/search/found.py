"""What a search answers: splits with their figures, the best of each objective, and what was proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from isthmus.partitioner.search.problem import Bottleneck

SplitKind = Literal["local", "offload", "split", "bottleneck"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One way to run the network on two machines, with everything it costs.

    A frame that needs the server over a link that may be dead has infinite expected times and energy.

    Attributes:
        kind: Who runs what.
        device_mask: Bit i is set if node i is on the device's side of the cut.
        frontier: Names of the tensors that cross, in the graph's order.
        encodings: How the network's inputs among them are sent, by name.
        bottleneck: The one that replaces what crosses, or None.
        nbytes: Bytes that cross for one frame.
        device_s: Seconds on the device, encoding included.
        transfer_s: Expected seconds of transfer, without the RTT.
        rtt_s: Seconds of the round trip; 0 for `local`.
        server_s: Seconds on the server, decoding included.
        latency_s: Expected seconds from capture to answer: the sum of these four.
        energy_j: Expected joules of the device.
        period_s: Seconds between two frames of a full pipeline: the longest of device, transfer and server.
        memory_bytes: Bytes of the device's weights and, at the most, of live tensors while its nodes run in
            the graph's order.
        accuracy: The network's, or the bottleneck's; None where it is unknown.
        on_time: Probability of meeting the deadline, or None without one.
    """

    kind: SplitKind
    device_mask: int
    frontier: tuple[str, ...]
    encodings: Mapping[str, str]
    bottleneck: Bottleneck | None
    nbytes: int
    device_s: float
    transfer_s: float
    rtt_s: float
    server_s: float
    latency_s: float
    energy_j: float
    period_s: float
    memory_bytes: int
    accuracy: float | None
    on_time: float | None

    @property
    def device_nodes(self) -> tuple[int, ...]:
        """Indices of the nodes on the device's side, in order."""
        return tuple(index for index in range(self.device_mask.bit_length()) if self.device_mask >> index & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best split of one objective that keeps every constraint.

    Attributes:
        split: The split, or None if none is known.
        value: The objective's value; infinite without a split.
        bound: No split that keeps the constraints is better than this. Equal to `value` if `proven`.
        proven: Whether nothing better exists (up to rounding, with floats); without a split: whether none
            exists at all.
        how: `enumeration`, `min-cut`, or `Lagrangian bound`.
    """

    split: Split | None
    value: float
    bound: float
    proven: bool
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer to a search.

    Attributes:
        best: By the objectives' names.
        pareto: The splits that keep every constraint and that none other beats in latency, energy, bytes,
            period and accuracy together; of equal ones the first. In the order of latency.
        pareto_exact: Whether that is the whole Pareto set; else it is that of the splits that were weighed.
        considered: How many splits were weighed.
        how: One sentence.
    """

    best: Mapping[str, Best]
    pareto: tuple[Split, ...]
    pareto_exact: bool
    considered: int
    how: str
