"""Read the logs of a run folder, whatever of it is there.

Decides which files belong together and what may be missing: everything but the frames. A part that is there
but cannot be used is noted, so that the report says so; it is never guessed. Draws no conclusion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.report.connectivity import ConnectedRule, disconnections, outages
from isthmus.report.links import join_links, join_shapes
from isthmus.report.parts import count_frames
from isthmus.report.runlog import RunLog
from isthmus.report.side_files import (
    PLAN_FILE,
    TEACHER_FILE,
    TIMINGS_FILE,
    TeacherAnswers,
    read_plan,
    read_teacher,
    read_timings,
)
from isthmus.report.survey import Survey, survey
from isthmus.report.tally import Context
from isthmus.runtime.bundle import Bundle, load_bundle
from isthmus.runtime.errors import ArtifactError, BundleError, InputError
from isthmus.runtime.links import RateTrace

EVENTS_FILE = "events.jsonl"
LINK_FILE = "link.jsonl"
BUNDLE_DIR = "bundle"
# So many frames are kept one by one: enough for a drawing in which each is a mark, and for the clairvoyant.
# Of a longer run some windows are kept, for the clairvoyant alone, who takes a while for each frame.
KEPT_FRAMES = 20_000
_WINDOWS = 8
_WINDOW_FRAMES = 500

Watch = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How logs are read.

    Attributes:
        jobs: Processes that may take part.
        bundle: The bundle the agent ran with, as the user gave it; None: the one in the run's folder.
        trace: The rates that the link had, as the user gave them; None: as logged.
        watch: Told what is being done and the share of it that is done.
    """

    jobs: int = 1
    bundle: Bundle | None = None
    trace: RateTrace | None = None
    watch: Watch | None = None


def load_runs(
    paths: Sequence[Path],
    *,
    bundle: Path | None = None,
    trace: RateTrace | None = None,
    jobs: int = 1,
    watch: Watch | None = None,
) -> tuple[RunLog, ...]:
    """Read run folders and event logs.

    A folder is one run. Every event log given as a file is one run too, except files that hold only the rates
    of an emulated link (`isthmus link --events`): these apply to every run given as a file.

    Args:
        paths: Folders and files.
        bundle: The bundle the agent ran with.
        trace: The rates that the link had, from the first instant of each run on.
        jobs: Processes that read a long log.
        watch: Told what is being done and the share of it that is done.

    Raises:
        InputError: If a path is neither, or no run is among them.
        ArtifactError: If a log has an invalid line or mixes runs, or `bundle` is not the bundle of a run.
        BundleError: If `bundle` cannot be verified.
    """
    given = load_bundle(bundle) if bundle is not None else None
    reading = Reading(jobs=jobs, bundle=given, trace=trace, watch=watch)
    surveys: dict[Path, Survey] = {}
    for path in paths:
        if path.is_file():
            surveys[path] = _survey(path, reading)
        elif not path.is_dir():
            raise InputError(
                f"{path}: no such run folder or event log; give what 'isthmus agent --events' wrote"
            )
    rates = [found for found in surveys.values() if not _is_run(found)]
    runs = []
    for path in paths:
        if path.is_dir():
            runs.append(_load_folder(path, reading))
        elif _is_run(surveys[path]):
            runs.append(_assemble(path.stem, [surveys[path], *rates], given, reading))
    if not runs:
        raise InputError(
            f"{paths[0]}: holds no run, only link rates; give the events.jsonl of the agent as well"
        )
    return tuple(runs)


def _is_run(found: Survey) -> bool:
    return bool(found.runs or found.frames)


def _survey(file: Path, reading: Reading) -> Survey:
    size = max(file.stat().st_size, 1)
    return survey(file, on_bytes=_share(reading, f"looking through {file.name}", size))


def _share(reading: Reading, what: str, size: int) -> Callable[[int], None] | None:
    watch = reading.watch
    return None if watch is None else lambda nbytes: watch(what, nbytes / size)


def _load_folder(folder: Path, reading: Reading) -> RunLog:
    events = folder / EVENTS_FILE
    if not events.is_file():
        raise InputError(
            f"{events}: no such file; give a folder that holds the {EVENTS_FILE} of 'isthmus agent'"
        )
    surveys = [_survey(events, reading)]
    notes: list[str] = []
    link = folder / LINK_FILE
    if link.is_file():
        try:
            surveys.append(_survey(link, reading))
        except ArtifactError as error:
            notes.append(f"The link's log is not used: {error}.")
    bundle = reading.bundle
    if bundle is None and (folder / BUNDLE_DIR).is_dir():
        bundle = _load_own_bundle(folder / BUNDLE_DIR, surveys[0], notes)
    plan = read_plan(folder / PLAN_FILE, notes)
    timings_s = read_timings(folder / TIMINGS_FILE, notes)
    teacher = read_teacher(folder / TEACHER_FILE, notes)
    log = _assemble(folder.resolve().name, surveys, bundle, reading, teacher)
    if teacher is not None and not log.tally.teacher_agrees:
        notes.append(f"{TEACHER_FILE} is not used: its labels are not those of this run's frames.")
    return dataclasses.replace(log, plan=plan, timings_s=timings_s, notes=tuple(notes))


def _load_own_bundle(path: Path, found: Survey, notes: list[str]) -> Bundle | None:
    # Found, not asked for: if it is another run's, the rest can be reported all the same.
    try:
        bundle = load_bundle(path)
    except BundleError as error:
        notes.append(f"The bundle beside the log is not used: {error}.")
        return None
    if found.runs and found.runs[0].bundle_digest != bundle.digest:
        notes.append(
            f"The bundle in {path.name}/ is not the one of this run (its digest differs), so it is not used."
        )
        return None
    return bundle


def _assemble(
    name: str,
    surveys: Sequence[Survey],
    bundle: Bundle | None,
    reading: Reading,
    teacher: TeacherAnswers | None = None,
) -> RunLog:
    log, file = surveys[0], surveys[0].file
    if len(log.runs) > 1:
        raise ArtifactError(f"{file}: holds {len(log.runs)} runs; give one log per run")
    if log.span_s is None:
        raise ArtifactError(
            f"{file}: holds no frame, so there is nothing to report; let the agent run longer"
        )
    run = log.runs[0] if log.runs else None
    if bundle is not None and run is not None and run.bundle_digest != bundle.digest:
        raise ArtifactError(
            f"{bundle.root}: digest {bundle.digest[:12]}… is not that of the run "
            f"({run.bundle_digest[:12]}… in {file}); give the bundle the agent ran with"
        )
    links = join_links([log.links])
    shapes = join_shapes([found.shapes for found in surveys])
    end = log.ends[-1] if log.ends else None
    start_s = min(run.at_s, log.span_s[0]) if run else log.span_s[0]
    end_s = end.at_s if end else max(log.span_s[1], float(links.at_s[-1]) if len(links) else 0.0)
    deadline_s = run.deadline_s if run else 0.0
    down = outages(shapes, start_s=start_s, end_s=end_s, deadline_s=deadline_s)
    gaps = [*down, *disconnections(links, start_s=start_s, end_s=end_s)]
    windows_s = _windows(log)
    context = Context(
        connected=ConnectedRule(links, shapes, down, deadline_s=deadline_s),
        gaps=tuple(sorted(gaps, key=lambda gap: (gap.start_s, gap.kind))),
        teacher=np.array([teacher.answers, teacher.labels], dtype=np.int64) if teacher else None,
        radio_tail_s=run.radio.tail_s if run and run.radio else 0.0,
        windows_s=windows_s,
    )
    watch = _share(reading, f"reading {file.name}", max(log.size_bytes, 1))
    counted = count_frames(log, context, jobs=reading.jobs, on_bytes=watch)
    kept = counted.tally.kept()
    assert kept is not None, "a surveyed log has the frames it was surveyed to have"
    return RunLog(
        name=name,
        folder=file.parent,
        run=run,
        tally=counted.tally,
        points=counted.points,
        reasons=counted.reasons,
        examples=counted.examples,
        kept=kept,
        windows_s=windows_s or ((counted.tally.first_s, np.inf),),
        complete=windows_s is None,
        links=links,
        shapes=shapes,
        deadlines=log.deadlines,
        gaps=context.gaps,
        trace=reading.trace,
        end=end,
        torn=log.torn,
        start_s=min(start_s, counted.tally.first_s),
        end_s=end_s,
        table=bundle.points if bundle else None,
        widths=run.widths if run else bundle.manifest.widths if bundle else (),
    )


def _windows(log: Survey) -> tuple[tuple[float, float], ...] | None:
    """Return the stretches of a long run whose frames are kept, spread evenly; None: all are kept."""
    assert log.span_s is not None, "there are frames"
    if log.frames <= KEPT_FRAMES:
        return None
    begin_s, end_s = log.span_s
    length_s = (end_s - begin_s) * _WINDOW_FRAMES / log.frames
    starts_s = np.linspace(begin_s, end_s - length_s, _WINDOWS)
    return tuple((float(start_s), float(start_s + length_s)) for start_s in starts_s)
