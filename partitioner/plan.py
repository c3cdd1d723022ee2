"""The plan: what `isthmus partition` measured, weighed and chose (`plan.json`).

Decides what a plan holds; `plan_file` reads and writes it. Knows nothing of ONNX, so that training can read a
plan without it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from isthmus.partitioner.facts import (
    BottleneckAssumption,
    BottleneckRules,
    CostTable,
    Count,
    Fraction,
    LinkProfile,
    MachineFacts,
    Seconds,
    TensorFact,
)
from isthmus.partitioner.search.problem import Objective

PLAN_SCHEMA_VERSION = 2

Kind = Literal["local", "offload", "split", "bottleneck"]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class StageTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the time of one frame goes.

    Attributes:
        device_s: Seconds on the device.
        link_s: Seconds of transfer and RTT, over a trace their mean; None where the link is dead and the
            frame never arrives.
        server_s: Seconds on the server.
    """

    device_s: Seconds
    link_s: Seconds | None
    server_s: Seconds

    @property
    def total_s(self) -> float | None:
        """Capture to answer in seconds, or None for never."""
        return None if self.link_s is None else self.device_s + self.link_s + self.server_s


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What follows from a candidate's times.

    Attributes:
        energy_j: Joules of the device for one frame, modelled from its watts; None where these are unknown.
        period_s: Seconds between two frames of a full pipeline: the longest of device, transfer and server.
            None over a dead link.
        on_time: Share of frames that meet the deadline, or None without one.
        quantiles_s: (share of frames, seconds from capture to answer) over a trace; empty over a constant
            link, where all frames take the same.
    """

    energy_j: Seconds | None
    period_s: Seconds | None
    on_time: Fraction | None
    quantiles_s: tuple[tuple[Fraction, Seconds], ...] = ()


class LearnedPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operating point of a bundle that a candidate is.

    Attributes:
        width: Compute fraction of the encoder.
        channels: Latent channels that are sent.
        accuracy: As measured when the bundle was exported.
    """

    width: float
    channels: Count
    accuracy: Fraction


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to run the network on two machines.

    Attributes:
        kind: Who runs what.
        frontier: The tensors that cross, or that a bottleneck stands for; empty for `local`, the inputs for
            `offload`.
        encoding: What they cross as, e.g. `float32`, `uint8`, `jpeg q90`, `assumed latent`, `latent`.
        payload_bytes: Bytes that cross for one frame.
        head_share: Share of the network's time on the device before the frontier.
        head_nodes: How many nodes are before it.
        nodes: Their keys, where several tensors cross; one tensor says it all.
        module: The torch module whose output the cut is, where known.
        learned: The operating point, for a bottleneck that was trained; else a bottleneck is assumed.
        accuracy: Of its answers, in [0, 1]; None where nobody measured it.
        memory_bytes: Bytes of weights and, at the most, of live tensors on the device. For an assumed
            bottleneck those of the head that it replaces.
        server_memory_bytes: Likewise on the server, where the halves were rebuilt.
        predicted: Times from node costs.
        measured: Times of real halves where a machine is this one (scaled by its speed), else predicted ones;
            None where both machines are others or it was not rebuilt. The link is always calculated, and of
            an assumed bottleneck encoder and decoder stay fractions of the head.
        figures: What follows from `times`.
        spread_s: Sum of the interquartile ranges of what was measured, on this machine.
        max_rel_diff: Largest difference of head and tail from the whole, relative to the largest output.
        refused: Why it may not be chosen, or None.
    """

    kind: Kind
    frontier: tuple[TensorFact, ...]
    encoding: str
    payload_bytes: Count
    head_share: Fraction
    head_nodes: Count = 0
    nodes: tuple[str, ...] = ()
    module: str | None = None
    learned: LearnedPoint | None = None
    accuracy: Fraction | None = None
    memory_bytes: Count | None = None
    server_memory_bytes: Count | None = None
    predicted: StageTimes
    measured: StageTimes | None = None
    figures: Figures
    spread_s: Seconds | None = None
    max_rel_diff: float | None = None
    refused: str | None = None

    @property
    def times(self) -> StageTimes:
        """The measured times where there are any, else the predicted."""
        return self.measured or self.predicted

    @property
    def cut(self) -> str | None:
        """The name of an interior cut: its tensors, joined by `+`. None for an endpoint."""
        interior = self.kind in ("split", "bottleneck") and self.frontier
        return "+".join(tensor.name for tensor in self.frontier) if interior else None

    @property
    def assumed(self) -> bool:
        """Whether it rests on a bottleneck that nobody has trained."""
        return self.kind == "bottleneck" and self.learned is None


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do, and why.

    Attributes:
        kind, cut, module: As in the chosen candidate.
        candidate: Its index in `Plan.candidates`.
        total_s: Its mean seconds from capture to answer, or None for never.
        gain: What the objective has for the best alternative, divided by what it has for this one: the better
            endpoint for a split or a bottleneck, the best split or bottleneck for an endpoint. Below 1, the
            alternative is better; None where there is none.
        deadline_met: Whether the deadline is met, as often as it has to be; None without one.
        reason: One sentence.
    """

    kind: Kind
    cut: str | None
    module: str | None
    candidate: Count
    total_s: float | None
    gain: float | None
    deadline_met: bool | None
    reason: str


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked for.

    Attributes:
        objective: What to minimise.
        choose: `best`, or `bottleneck` for the best place to train one.
        deadline_s: Most seconds from capture to answer, or None.
        deadline_probability: Share of frames that have to meet it.
        device_memory_bytes: Most bytes on the device, or None.
        no_raw_input: Whether no input of the network may leave the device.
        pins: The machine that a node has to run on, by its key.
        allowed: The cuts that may be used, or None for all.
        least_accuracy: Least accuracy of a trained bottleneck that may be chosen, or None.
    """

    objective: Objective
    choose: Literal["best", "bottleneck"] = "best"
    deadline_s: Seconds | None = None
    deadline_probability: Fraction = 0.95
    device_memory_bytes: Count | None = None
    no_raw_input: bool = False
    pins: dict[str, Literal["device", "server"]] = {}
    allowed: tuple[tuple[str, ...], ...] | None = None
    least_accuracy: float | None = None


class Searched(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the search over all device sets says.

    Attributes:
        how: One sentence.
        considered: How many splits were weighed.
        proven: Whether no other split is better in the objective, by the node costs; over a trace by the
            rates that the search got instead.
    """

    how: str
    considered: Count
    proven: bool


class BundleFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bundle whose bottleneck is among the candidates.

    Attributes:
        name, digest: The bundle's.
        cut: The tensor that its bottleneck stands for.
        measured_on: The images of its accuracies.
    """

    name: str
    digest: str
    cut: str
    measured_on: str


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured, weighed and chosen for one model, device, server and link.

    Attributes:
        schema_version: `PLAN_SCHEMA_VERSION`.
        model: File name of the ONNX model.
        model_digest: SHA-256 of its bytes, external data included.
        device, server: The machines.
        link: Between them.
        asked: Objective and constraints.
        device_costs, server_costs: Node costs of each machine, before its speed is applied.
        energy: What the joules count: `board`, all that the device draws from capture to answer; `above
            idle`; or None where they are unknown.
        accuracy: Of the whole network, where a bundle tells it.
        bundle: The bundle that was weighed too, or None.
        assumption, rules: What assumed bottlenecks rest on.
        searched: What the search says.
        candidates: Every single-tensor cut and what the search found beyond, the refused included.
        pareto: Indices of the candidates that no other beats in predicted latency, energy, bytes, period and
            accuracy together.
        choice: What to do.
    """

    schema_version: int = PLAN_SCHEMA_VERSION
    model: str
    model_digest: Sha256
    device: MachineFacts
    server: MachineFacts
    link: LinkProfile
    asked: Asked
    device_costs: CostTable
    server_costs: CostTable
    energy: Literal["board", "above idle"] | None
    accuracy: Fraction | None = None
    bundle: BundleFacts | None = None
    assumption: BottleneckAssumption
    rules: BottleneckRules
    searched: Searched
    candidates: tuple[Candidate, ...]
    pareto: tuple[int, ...]
    choice: Choice
