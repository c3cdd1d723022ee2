"""Read the frames of a log into one tally, in parts side by side where the log is long."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isthmus.report.frames import FrameDecoder, Frames, join
from isthmus.report.survey import BLOCK_BYTES, Cut, Survey
from isthmus.report.tally import Context, FrameTally
from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.event_lines import read_lines

_Name = TypeVar("_Name")

# Below this a second process takes longer to start than it saves.
_WORTH_A_PROCESS_BYTES = 64 << 20
# More parts than processes: they share the work evenly, and somebody who waits sees it advance.
_PARTS_PER_PROCESS = 8
# Arrays of so many frames are long enough for numpy to be quick, and short enough for the cache.
_BATCH_FRAMES = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Frames added up, and the names of their indices.

    Attributes:
        tally: The sums.
        points: Operating points by index; the first is None.
        reasons, examples: The policy's reasons by index, and one in full for each.
    """

    tally: FrameTally
    points: tuple[OperatingPoint | None, ...]
    reasons: tuple[str, ...]
    examples: tuple[str, ...]


def count_frames(
    survey: Survey,
    context: Context,
    *,
    jobs: int = 1,
    on_bytes: Callable[[int], None] | None = None,
) -> Counted:
    """Return the frames of a surveyed log, added up; `jobs` processes take part if it is long.

    Raises:
        ArtifactError: If a line is not an event.
    """
    if jobs == 1 or survey.size_bytes < _WORTH_A_PROCESS_BYTES:
        return _count(context, survey.file, (Cut(0, 1), Cut(survey.size_bytes, 0)), on_bytes)
    parts = _parts(survey, jobs * _PARTS_PER_PROCESS)
    everything: Counted | None = None
    # The context goes to each process once, not with each part.
    share = (context, survey.file)
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_begin, initargs=share
    ) as pool:
        for part, counted in zip(parts, pool.map(_count_part, parts), strict=True):
            everything = counted if everything is None else _merged(everything, counted)
            if on_bytes is not None:
                on_bytes(part[1].byte)
    assert everything is not None, "a log that is divided is not empty"
    return everything


def _parts(survey: Survey, count: int) -> list[tuple[Cut, Cut]]:
    """Return (from, until) of about equal parts that begin where a line begins."""
    starts = np.array([cut.byte for cut in survey.cuts])
    ideal = np.linspace(0, survey.size_bytes, count + 1)
    chosen = sorted({int(index) for index in np.searchsorted(starts, ideal)})
    return [(survey.cuts[a], survey.cuts[b]) for a, b in itertools.pairwise(chosen)]


_Share = tuple[Context, Path]
_shared: list[_Share] = []  # of a process that was started to read parts: what all of them need


def _begin(context: Context, file: Path) -> None:
    _shared[:] = [(context, file)]


def _count_part(part: tuple[Cut, Cut]) -> Counted:
    context, file = _shared[0]
    return _count(context, file, part)


def _count(
    context: Context,
    file: Path,
    part: tuple[Cut, Cut],
    on_bytes: Callable[[int], None] | None = None,
) -> Counted:
    tally, decoder = FrameTally(context), FrameDecoder()
    for batch in _batches(decoder, file, part, on_bytes):
        tally.add(batch)
    return Counted(
        tally=tally,
        points=tuple(decoder.points),
        reasons=tuple(decoder.reasons),
        examples=tuple(decoder.examples),
    )


def _batches(
    decoder: FrameDecoder, file: Path, part: tuple[Cut, Cut], on_bytes: Callable[[int], None] | None
) -> Iterator[Frames]:
    waiting: list[Frames] = []
    begin, end = part
    blocks = read_lines(file, start=begin.byte, first=begin.line, end=end.byte, block_bytes=BLOCK_BYTES)
    for lines in blocks:
        frames = decoder.decode(lines, file)
        if on_bytes is not None:
            on_bytes(lines.start + len(lines.data))
        if frames is not None:
            waiting.append(frames)
        if sum(map(len, waiting)) >= _BATCH_FRAMES:
            yield join(waiting)
            waiting = []
    if waiting:
        yield join(waiting)


def _merged(one: Counted, other: Counted) -> Counted:
    """Return both added up; the later part's names get indices of the earlier one's list."""
    points, point_map = _union(one.points, other.points)
    reasons, reason_map = _union(one.reasons, other.reasons)
    added = [text for text, at in zip(other.examples, reason_map, strict=True) if at >= len(one.reasons)]
    one.tally.merge(other.tally, points=point_map, reasons=reason_map)
    return replace(one, points=points, reasons=reasons, examples=(*one.examples, *added))


def _union(names: Sequence[_Name], others: Sequence[_Name]) -> tuple[tuple[_Name, ...], NDArray[np.int64]]:
    index = {name: number for number, name in enumerate(names)}
    mapped = [index.setdefault(name, len(index)) for name in others]
    return tuple(index), np.array(mapped, dtype=np.int64)
