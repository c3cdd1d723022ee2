"""What a run did, split by operating point, by stage of a frame and by the policy's reason. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.report.labels import short_point
from isthmus.report.quantiles import Quantiles
from isthmus.report.runlog import RunLog
from isthmus.report.stages import STAGE_NAMES
from isthmus.report.statistics import Durations, Share, durations, share
from isthmus.runtime.bundle import OperatingPoint, PointRecord
from isthmus.runtime.events import OUTCOMES

UNEXPLAINED = "unexplained"
_REMOTE = OUTCOMES.index("remote")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointUse:
    """What one operating point did in the run; `point` None: frames for which nothing was computed.

    Attributes:
        width: The compute fraction; None if neither log nor bundle tells.
        frames: Frames computed or sent at it.
        sent: Those with a payload on the link.
        remote: Those answered by the server in time.
        probes: Those sent mainly to learn the rate.
        payload_bytes_mean: Over those sent.
        accuracy: Of those answered by the server in time, truth known.
        latency: Of those answered by the server in time.
        measured: The bundle's record of the point, if the bundle was found.
    """

    point: OperatingPoint | None
    width: float | None
    frames: int
    sent: int
    remote: int
    probes: int
    payload_bytes_mean: float | None
    accuracy: Share | None
    latency: Durations | None
    measured: PointRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Mean seconds of each stage of the frames of one row; means, so that the stages add up to `total_s`.

    `mean_s` has the stages of `events.STAGES` that occur in the run, in their order, then `unexplained`: what
    the log names no stage for. It is not cut off at 0: a negative one says that the logged parts contradict
    the whole. `outcome` is how the frames ended, `point` None: frames of every point.
    """

    outcome: str
    point: OperatingPoint | None
    frames: int
    mean_s: dict[str, float]
    total_s: float

    def label(self, widths: Sequence[float]) -> str:
        """Return what the row stands for."""
        if self.point is not None:
            return short_point(self.point, widths)
        return "server, all" if self.outcome == "remote" else self.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonUse:
    """How often the policy gave a reason; `#` replaces its quantities, `example` is the first one in full."""

    reason: str
    frames: int
    example: str


def point_uses(log: RunLog) -> tuple[PointUse, ...]:
    """Return the use of every operating point that occurs, most frames first, then the frames without one."""
    uses = [_point_use(log, index, point) for index, point in log.used_points()]
    uses.sort(key=lambda use: -use.frames)
    if log.tally.sums["frames"][0].sum():
        uses.append(_point_use(log, 0, None))
    return tuple(uses)


def _point_use(log: RunLog, index: int, point: OperatingPoint | None) -> PointUse:
    sums = log.tally.sums

    def total(name: str) -> int:
        return int(sums[name][index].sum())

    sent = total("sent")
    records = log.table.records if log.table and point else ()
    return PointUse(
        point=point,
        width=log.widths[point.width_index] if point and point.width_index < len(log.widths) else None,
        frames=total("frames"),
        sent=sent,
        remote=int(sums["frames"][index, _REMOTE]),
        probes=total("probes"),
        payload_bytes_mean=total("payload_bytes") / sent if sent else None,
        accuracy=share(int(sums["right"][index, _REMOTE]), int(sums["known"][index, _REMOTE])),
        latency=durations(log.tally.point_latency.get(index, Quantiles())),
        measured=next((record for record in records if record.point == point), None),
    )


def stage_rows(log: RunLog) -> tuple[Stages, ...]:
    """Return the stages of the server's frames, all and by point (small ones first), then the others'."""
    every = np.arange(len(log.points))
    rows = [_stages(log, every, "remote", None)]
    for index, point in log.points_by_size():
        rows.append(_stages(log, every[index : index + 1], "remote", point))
    rows += [_stages(log, every, outcome, None) for outcome in ("exit", "local", "late")]
    return tuple(row for row in rows if row is not None)


def _stages(
    log: RunLog, points: NDArray[np.int64], outcome: str, point: OperatingPoint | None
) -> Stages | None:
    tally, column = log.tally, OUTCOMES.index(outcome)
    frames = int(tally.sums["timed"][points, column].sum())
    if not frames:
        return None
    occurring = np.asarray(tally.stage_s.any(axis=(1, 2)), dtype=np.bool_)
    means = tally.stage_s[:, points, column].sum(axis=1) / frames
    total_s = float(tally.sums["latency_s"][points, column].sum()) / frames
    mean_s = {name: float(means[i]) for i, name in enumerate(STAGE_NAMES) if occurring[i]}
    mean_s[UNEXPLAINED] = total_s - sum(mean_s.values())
    return Stages(outcome=outcome, point=point, frames=frames, mean_s=mean_s, total_s=total_s)


def reason_uses(log: RunLog) -> tuple[ReasonUse, ...]:
    """Return the policy's reasons, most frequent first."""
    counts = log.tally.reasons
    order = np.argsort(-counts, kind="stable")
    return tuple(
        ReasonUse(reason=log.reasons[i] or "(none given)", frames=int(counts[i]), example=log.examples[i])
        for i in order
    )
