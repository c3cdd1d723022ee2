"""Read the logs of a run folder, whatever of it is there.

Decides which files belong together and what may be missing: everything but the frames. A part that is there
but cannot be used is noted, so that the report says so; it is never guessed. Draws no conclusion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from isthmus.report.frames import FrameColumns, Frames
from isthmus.runtime.bundle import Bundle, PointTable, load_bundle
from isthmus.runtime.errors import ArtifactError, BundleError, InputError
from isthmus.runtime.events import EndEvent, FrameEvent, LinkEvent, RunEvent, ShapeEvent, read_events

EVENTS_FILE = "events.jsonl"
LINK_FILE = "link.jsonl"
PLAN_FILE = "plan.json"
TIMINGS_FILE = "timings.json"
TEACHER_FILE = "teacher.json"
BUNDLE_DIR = "bundle"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLog:
    """Everything a report reads of one run.

    Attributes:
        name: What the report calls the run: the folder's or the file's name.
        folder: Where the report goes unless told otherwise.
        run: The first event; None if the log has lost it.
        frames: The frames, ordered by capture time.
        links: The agent's beliefs, once a second, ordered by time.
        shapes: The true rates of the emulated link, ordered by time; empty for a real link.
        end: The last event; None if the agent was killed or still runs.
        points: The measured table of the bundle, if the bundle was found.
        widths: Compute fractions, from the run event or the bundle; empty if neither is there.
        plan: The partitioner's choice, if the folder has a plan.json.
        timings_s: Seconds by stage (train, export …), if the folder has a timings.json.
        teacher: The uncut network's answers to the same images, if the folder has a teacher.json.
        notes: What could not be used, one sentence each.
    """

    name: str
    folder: Path
    run: RunEvent | None
    frames: Frames
    links: tuple[LinkEvent, ...] = ()
    shapes: tuple[ShapeEvent, ...] = ()
    end: EndEvent | None = None
    points: PointTable | None = None
    widths: tuple[float, ...] = ()
    plan: PlanChoice | None = None
    timings_s: tuple[tuple[str, float], ...] = ()
    teacher: TeacherAnswers | None = None
    notes: tuple[str, ...] = ()


class _Parts:
    """The events of one or more files, sorted into kinds."""

    def __init__(self) -> None:
        self.runs: list[RunEvent] = []
        self.ends: list[EndEvent] = []
        self.links: list[LinkEvent] = []
        self.shapes: list[ShapeEvent] = []
        self.columns = FrameColumns()
        self.frames = 0

    def read(self, file: Path) -> None:
        for event in read_events(file):
            if isinstance(event, RunEvent):
                self.runs.append(event)
            elif isinstance(event, EndEvent):
                self.ends.append(event)
            elif isinstance(event, LinkEvent):
                self.links.append(event)
            elif isinstance(event, ShapeEvent):
                self.shapes.append(event)
            elif isinstance(event, FrameEvent):
                self.frames += 1
                self.columns.add(event)


def load_runs(paths: Sequence[Path], *, bundle: Path | None = None) -> tuple[RunLog, ...]:
    """Read run folders and event logs.

    A folder is one run. Every event log given as a file is one run too, except files that hold only the rates
    of an emulated link (`isthmus link --events`): these apply to every run given as a file.

    Raises:
        InputError: If a path is neither, or no run is among them.
        ArtifactError: If a log has an invalid line or mixes runs, or `bundle` is not the bundle of a run.
        BundleError: If `bundle` cannot be verified.
    """
    given = load_bundle(bundle) if bundle is not None else None
    runs: list[RunLog] = []
    files: list[tuple[Path, _Parts]] = []
    for path in paths:
        if path.is_dir():
            runs.append(_load_folder(path, given))
        elif path.is_file():
            parts = _Parts()
            parts.read(path)
            files.append((path, parts))
        else:
            raise InputError(
                f"{path}: no such run folder or event log; give what 'isthmus agent --events' wrote"
            )
    shapes = [shape for _, parts in files if not _is_run(parts) for shape in parts.shapes]
    for path, parts in files:
        if _is_run(parts):
            parts.shapes += shapes
            runs.append(_assemble(path.stem, path, parts, given))
    if not runs:
        raise InputError(
            f"{paths[0]}: holds no run, only link rates; give the events.jsonl of the agent as well"
        )
    return tuple(runs)


def _is_run(parts: _Parts) -> bool:
    return bool(parts.runs or parts.frames)


def _load_folder(folder: Path, given: Bundle | None) -> RunLog:
    events = folder / EVENTS_FILE
    if not events.is_file():
        raise InputError(
            f"{events}: no such file; give a folder that holds the {EVENTS_FILE} of 'isthmus agent'"
        )
    parts = _Parts()
    parts.read(events)
    notes: list[str] = []
    link = folder / LINK_FILE
    if link.is_file():
        try:
            parts.read(link)
        except ArtifactError as error:
            notes.append(f"The link's log is not used: {error}.")
    bundle = given
    if bundle is None and (folder / BUNDLE_DIR).is_dir():
        bundle = _load_own_bundle(folder / BUNDLE_DIR, parts, notes)
    plan = _read_plan(folder / PLAN_FILE, notes)
    timings_s = _read_timings(folder / TIMINGS_FILE, notes)
    log = _assemble(folder.resolve().name, events, parts, bundle)
    teacher = _read_teacher(folder / TEACHER_FILE, log.frames, notes)
    return dataclasses.replace(log, plan=plan, timings_s=timings_s, teacher=teacher, notes=tuple(notes))


def _load_own_bundle(path: Path, parts: _Parts, notes: list[str]) -> Bundle | None:
    # Found, not asked for: if it is another run's, the rest can be reported all the same.
    try:
        bundle = load_bundle(path)
    except BundleError as error:
        notes.append(f"The bundle beside the log is not used: {error}.")
        return None
    if parts.runs and parts.runs[0].bundle_digest != bundle.digest:
        notes.append(
            f"The bundle in {path.name}/ is not the one of this run (its digest differs), so it is not used."
        )
        return None
    return bundle


def _assemble(name: str, file: Path, parts: _Parts, bundle: Bundle | None) -> RunLog:
    if len(parts.runs) > 1:
        raise ArtifactError(f"{file}: holds {len(parts.runs)} runs; give one log per run")
    if not parts.frames:
        raise ArtifactError(
            f"{file}: holds no frame, so there is nothing to report; let the agent run longer"
        )
    run = parts.runs[0] if parts.runs else None
    if bundle is not None and run is not None and run.bundle_digest != bundle.digest:
        raise ArtifactError(
            f"{bundle.root}: digest {bundle.digest[:12]}… is not that of the run "
            f"({run.bundle_digest[:12]}… in {file}); give the bundle the agent ran with"
        )
    return RunLog(
        name=name,
        folder=file.parent,
        run=run,
        frames=parts.columns.finish(),
        links=tuple(sorted(parts.links, key=lambda event: event.at_s)),
        shapes=tuple(sorted(parts.shapes, key=lambda event: event.at_s)),
        end=parts.ends[-1] if parts.ends else None,
        points=bundle.points if bundle else None,
        widths=run.widths if run else bundle.manifest.widths if bundle else (),
    )


_Content = TypeVar("_Content")


def _read_json(file: Path, kind: type[_Content], notes: list[str]) -> _Content | None:
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        notes.append(f"{file.name} is not used: {error}.")
        return None


def _read_plan(file: Path, notes: list[str]) -> PlanChoice | None:
    content = _read_json(file, _PlanFile, notes)
    return content.choice if content else None


def _read_timings(file: Path, notes: list[str]) -> tuple[tuple[str, float], ...]:
    content = _read_json(file, dict[str, object], notes) or {}
    return tuple((name, float(value)) for name, value in content.items() if isinstance(value, int | float))


def _read_teacher(file: Path, frames: Frames, notes: list[str]) -> TeacherAnswers | None:
    teacher = _read_json(file, TeacherAnswers, notes)
    if teacher is None:
        return None
    labels = np.array(teacher.labels, dtype=np.int64)
    if not len(labels) or len(labels) != len(teacher.answers):
        notes.append(
            f"{file.name} is not used: it has {len(teacher.answers)} answers to {len(labels)} images."
        )
    elif not np.array_equal(frames.truth, labels[frames.frame % len(labels)]):
        notes.append(f"{file.name} is not used: its labels are not those of this run's frames.")
    else:
        return teacher
    return None
