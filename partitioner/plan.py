"""The plan: what `isthmus partition` measured, weighed and chose (`plan.json`).

Decides what a well-formed plan is, and refuses one that cannot be read back. Knows nothing of ONNX, so that
training can read a plan without it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from isthmus.partitioner.facts import (
    BottleneckAssumption,
    BottleneckRules,
    CostTable,
    Count,
    DeviceProfile,
    Fraction,
    LinkProfile,
    Seconds,
    TensorFact,
)
from isthmus.runtime.errors import ArtifactError, InputError

PLAN_SCHEMA_VERSION = 1

AGAIN = "run 'isthmus partition' again"

Kind = Literal["local", "offload", "split", "bottleneck"]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class StageTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the time of one frame goes.

    Attributes:
        device_s: Seconds on the device.
        link_s: Seconds of transfer and RTT, or None where the link is dead and the frame never arrives.
        server_s: Seconds on the server.
    """

    device_s: Seconds
    link_s: Seconds | None
    server_s: Seconds

    @property
    def total_s(self) -> float | None:
        """Capture to answer in seconds, or None for never."""
        return None if self.link_s is None else self.device_s + self.link_s + self.server_s


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to run the network on two machines.

    Attributes:
        kind: Who runs what.
        frontier: The tensors that cross; empty for `local`, the inputs for `offload`.
        encoding: What they cross as, e.g. `float32`, `uint8`, `jpeg q90`, `assumed latent`.
        payload_bytes: Bytes that cross for one frame.
        head_share: Share of the network's time before the frontier, measured here.
        module: The torch module whose output the cut is, where known.
        predicted: Times from the node costs.
        measured: Times from real halves, run on this machine (scaled where a profile's speed is not 1; a
            bottleneck's encoder and decoder stay assumed fractions of the measured head). The link is always
            calculated.
        spread_s: Sum of the interquartile ranges of what was measured, on this machine.
        max_rel_diff: Largest difference of head and tail from the whole, relative to the largest output.
        refused: Why it may not be chosen, or None.
    """

    kind: Kind
    frontier: tuple[TensorFact, ...]
    encoding: str
    payload_bytes: Count
    head_share: Fraction
    module: str | None = None
    predicted: StageTimes
    measured: StageTimes | None = None
    spread_s: Seconds | None = None
    max_rel_diff: float | None = None
    refused: str | None = None

    @property
    def times(self) -> StageTimes:
        """The measured times where there are any, else the predicted."""
        return self.measured or self.predicted

    @property
    def cut(self) -> str | None:
        """The one tensor of an interior cut, or None for an endpoint."""
        return self.frontier[0].name if self.kind in ("split", "bottleneck") and self.frontier else None


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do, and why.

    Attributes:
        kind, cut, module: As in the chosen candidate.
        candidate: Its index in `Plan.candidates`.
        total_s: Its seconds from capture to answer, or None for never.
        gain: The best alternative's total divided by this one's: the better endpoint for a split or a
            bottleneck, the best split or bottleneck for an endpoint. Below 1, the alternative is faster; None
            where there is none.
        deadline_met: Whether the total meets the plan's deadline, or None without one.
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


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured, weighed and chosen for one model, device, server and link.

    Attributes:
        schema_version: `PLAN_SCHEMA_VERSION`.
        model: File name of the ONNX model.
        model_digest: SHA-256 of its bytes, external data included.
        device, server: The machines.
        link, deadline_s: What was asked for.
        objective: What was minimised, and over which kinds.
        device_costs, server_costs: Node costs at the threads of each.
        assumption, rules: What bottleneck candidates rest on.
        candidates: Every candidate, the refused included.
        pareto: Indices of the candidates that no other beats on predicted latency, bytes and device time
            together.
        choice: What to do.
    """

    schema_version: int = PLAN_SCHEMA_VERSION
    model: str
    model_digest: Sha256
    device: DeviceProfile
    server: DeviceProfile
    link: LinkProfile
    deadline_s: Seconds | None
    objective: Literal["latency", "bottleneck"]
    device_costs: CostTable
    server_costs: CostTable
    assumption: BottleneckAssumption
    rules: BottleneckRules
    candidates: tuple[Candidate, ...]
    pareto: tuple[int, ...]
    choice: Choice


def write_plan(path: str | os.PathLike[str], plan: Plan) -> None:
    """Write `plan` as JSON to `path`, atomically.

    Raises:
        InputError: If the file cannot be written.
    """
    file = Path(path)
    partial = file.with_name(file.name + ".partial")
    try:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n")
        partial.replace(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; choose another file for the plan") from None


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read the plan that `write_plan` wrote.

    Raises:
        ArtifactError: If the file is missing, damaged, of another version, or contradicts itself.
    """
    file = Path(path)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file}: {error.strerror or error}; make one with 'isthmus partition'") from None
    try:
        version = msgspec.json.decode(raw, type=dict[str, object]).get("schema_version")
        if version != PLAN_SCHEMA_VERSION:
            raise ArtifactError(
                f"{file}: plan version {version!r}, this Isthmus reads {PLAN_SCHEMA_VERSION}; {AGAIN}"
            )
        plan = msgspec.json.decode(raw, type=Plan)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{file}: not a valid plan: {error}; {AGAIN}") from None
    _check(plan, file)
    return plan


def _check(plan: Plan, file: Path) -> None:
    count = len(plan.candidates)
    for candidate in plan.candidates:
        if (candidate.kind == "local") == bool(candidate.frontier):
            raise ArtifactError(
                f"{file}: a {candidate.kind} candidate has {len(candidate.frontier)} tensors; {AGAIN}"
            )
    if any(not 0 <= index < count for index in plan.pareto):
        raise ArtifactError(f"{file}: the Pareto set names a candidate beyond {count}; {AGAIN}")
    if plan.choice.candidate >= count:
        raise ArtifactError(f"{file}: the choice is candidate {plan.choice.candidate} of {count}; {AGAIN}")
    chosen = plan.candidates[plan.choice.candidate]
    if (plan.choice.kind, plan.choice.cut, plan.choice.module) != (chosen.kind, chosen.cut, chosen.module):
        raise ArtifactError(
            f"{file}: the choice ({plan.choice.kind} at {plan.choice.cut}) is not its candidate "
            f"({chosen.kind} at {chosen.cut}); {AGAIN}"
        )
