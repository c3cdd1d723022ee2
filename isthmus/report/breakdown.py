"""What a run did, split by operating point, by stage of a frame and by the policy's reason. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.report.frames import NOTHING, Frames
from isthmus.report.labels import points_by_size, short_point
from isthmus.report.load import RunLog
from isthmus.report.statistics import Durations, Share, durations, share
from isthmus.runtime.bundle import OperatingPoint, PointRecord

STAGES = ("head", "encode", "network", "queue", "compute", "rest")


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

    `network` = remote − queue − compute: uplink, downlink and both stacks. `rest` is what the log names no
    stage for: waiting for the worker, decoding the answer and, for frames the device answered, waiting for
    the server and the answer itself. Neither is cut off at 0: a negative one says that the logged parts
    contradict the whole. `outcome` is how the frames ended, `point` None: frames of every point.
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
    points: list[OperatingPoint | None] = [*log.frames.points()]
    uses = [_point_use(log, point) for point in points]
    uses.sort(key=lambda use: -use.frames)
    if bool(log.frames.at(None).any()):
        uses.append(_point_use(log, None))
    return tuple(uses)


def _point_use(log: RunLog, point: OperatingPoint | None) -> PointUse:
    frames = log.frames
    here = frames.at(point)
    sent = here & (frames.payload_bytes > 0)
    remote = here & frames.ended_as("remote")
    known = remote & (frames.truth != NOTHING)
    records = log.points.records if log.points and point else ()
    return PointUse(
        point=point,
        width=log.widths[point.width_index] if point and point.width_index < len(log.widths) else None,
        frames=int(here.sum()),
        sent=int(sent.sum()),
        remote=int(remote.sum()),
        probes=int((here & (frames.probe != 0)).sum()),
        payload_bytes_mean=float(frames.payload_bytes[sent].mean()) if bool(sent.any()) else None,
        accuracy=share(int((known & (frames.answer == frames.truth)).sum()), int(known.sum())),
        latency=durations(frames.latency_s[remote]),
        measured=next((record for record in records if record.point == point), None),
    )


def stage_rows(log: RunLog) -> tuple[Stages, ...]:
    """Return the stages of the server's frames, all and by point (small ones first), then the others'."""
    frames = log.frames
    rows = [_stages(frames, frames.ended_as("remote"), "remote", None)]
    rows += [
        _stages(frames, frames.ended_as("remote") & frames.at(p), "remote", p) for p in points_by_size(log)
    ]
    rows += [
        _stages(frames, frames.ended_as(outcome), outcome, None) for outcome in ("exit", "local", "late")
    ]
    return tuple(row for row in rows if row is not None)


def _stages(
    frames: Frames, chosen: NDArray[np.bool_], outcome: str, point: OperatingPoint | None
) -> Stages | None:
    chosen = chosen & ~np.isnan(frames.latency_s)
    if not bool(chosen.any()):
        return None

    def column(values_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nan_to_num(values_s[chosen], nan=0.0)

    queue, compute = column(frames.server_queue_s), column(frames.server_compute_s)
    # A frame the device answered has no answer of the server that counts, so it has no network time either.
    network = column(frames.remote_s) - queue - compute
    parts = {
        "head": column(frames.head_s),
        "encode": column(frames.encode_s),
        "network": network,
        "queue": queue,
        "compute": compute,
    }
    total = frames.latency_s[chosen]
    parts["rest"] = total - np.sum(list(parts.values()), axis=0)
    return Stages(
        outcome=outcome,
        point=point,
        frames=int(chosen.sum()),
        mean_s={name: float(parts[name].mean()) for name in STAGES},
        total_s=float(total.mean()),
    )


def reason_uses(frames: Frames) -> tuple[ReasonUse, ...]:
    """Return the policy's reasons, most frequent first."""
    counts = np.bincount(frames.reason, minlength=len(frames.reasons))
    order = np.argsort(-counts, kind="stable")
    return tuple(
        ReasonUse(
            reason=frames.reasons[i] or "(none given)", frames=int(counts[i]), example=frames.examples[i]
        )
        for i in order
    )
