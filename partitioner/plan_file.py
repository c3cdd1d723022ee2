"""`plan.json` on disk: written atomically, and refused if it cannot be read back as it was.

Knows nothing of ONNX, so that training can read a plan without it.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from isthmus.partitioner.plan import PLAN_SCHEMA_VERSION, Plan
from isthmus.runtime.errors import ArtifactError, InputError

_AGAIN = "run 'isthmus partition' again"


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
                f"{file}: plan version {version!r}, this Isthmus reads {PLAN_SCHEMA_VERSION}; {_AGAIN}"
            )
        plan = msgspec.json.decode(raw, type=Plan)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{file}: not a valid plan: {error}; {_AGAIN}") from None
    _check(plan, file)
    return plan


def _check(plan: Plan, file: Path) -> None:
    count = len(plan.candidates)
    for candidate in plan.candidates:
        if (candidate.kind == "local") == bool(candidate.frontier):
            raise ArtifactError(
                f"{file}: a {candidate.kind} candidate has {len(candidate.frontier)} tensors; {_AGAIN}"
            )
    if any(not 0 <= index < count for index in plan.pareto):
        raise ArtifactError(f"{file}: the Pareto set names a candidate beyond {count}; {_AGAIN}")
    if plan.choice.candidate >= count:
        raise ArtifactError(f"{file}: the choice is candidate {plan.choice.candidate} of {count}; {_AGAIN}")
    chosen = plan.candidates[plan.choice.candidate]
    if (plan.choice.kind, plan.choice.cut, plan.choice.module) != (chosen.kind, chosen.cut, chosen.module):
        raise ArtifactError(
            f"{file}: the choice ({plan.choice.kind} at {plan.choice.cut}) is not its candidate "
            f"({chosen.kind} at {chosen.cut}); {_AGAIN}"
        )
