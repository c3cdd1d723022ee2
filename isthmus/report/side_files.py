"""What may lie beside a log: the partitioner's choice, times by stage, the uncut network's answers.

A file that is there but cannot be used is noted, so that the report says so; it is never guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

PLAN_FILE = "plan.json"
TIMINGS_FILE = "timings.json"
TEACHER_FILE = "teacher.json"


class PlanChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What the partitioner chose (`choice` of plan.json): the kind, the cut tensor and module, and why."""

    kind: str
    cut: str | None = None
    module: str | None = None
    reason: str = ""


class _PlanFile(msgspec.Struct, frozen=True):
    # Only what the page shows: partitioner.read_plan checks everything, but needs onnx.
    choice: PlanChoice


class TeacherAnswers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The uncut network on the source's images, in order (`teacher.json`); frame i shows image i mod N.

    Attributes:
        answers: Class indices.
        labels: True classes, which show that the frames are of this source.
    """

    answers: tuple[int, ...]
    labels: tuple[int, ...]


_Content = TypeVar("_Content")


def _read_json(file: Path, kind: type[_Content], notes: list[str]) -> _Content | None:
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        notes.append(f"{file.name} is not used: {error}.")
        return None


def read_plan(file: Path, notes: list[str]) -> PlanChoice | None:
    """Return the choice in a plan.json; None without one."""
    content = _read_json(file, _PlanFile, notes)
    return content.choice if content else None


def read_timings(file: Path, notes: list[str]) -> tuple[tuple[str, float], ...]:
    """Return the seconds in a timings.json by stage."""
    content = _read_json(file, dict[str, object], notes) or {}
    return tuple((name, float(value)) for name, value in content.items() if isinstance(value, int | float))


def read_teacher(file: Path, notes: list[str]) -> TeacherAnswers | None:
    """Return the answers in a teacher.json; None without one."""
    teacher = _read_json(file, TeacherAnswers, notes)
    if teacher is None:
        return None
    if not teacher.labels or len(teacher.labels) != len(teacher.answers):
        notes.append(
            f"{file.name} is not used: it has {len(teacher.answers)} answers to {len(teacher.labels)} images."
        )
        return None
    return teacher
