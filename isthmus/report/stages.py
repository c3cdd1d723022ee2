"""The stages of a frame for many frames at once: what `events.STAGES` says of one, over columns.

A test holds that both agree on every stage, so that a stage that is added there is missed here loudly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from isthmus.report.frames import Frames
from isthmus.runtime.events import STAGES

Column = NDArray[np.float64]

STAGE_NAMES = tuple(stage.name for stage in STAGES)


def _or_zero(values: Column) -> Column:
    return np.nan_to_num(values, nan=0.0)


def _network_s(frames: Frames) -> Column:
    said_s = frames.time_s("server_queue_s") + _or_zero(frames.time_s("server_compute_s"))
    said_s = said_s + _or_zero(frames.time_s("server_answer_s"))
    return np.asarray(np.maximum(0.0, frames.time_s("remote_s") - said_s))


def _remote_s(frames: Frames) -> Column:
    return np.where(np.isnan(frames.time_s("server_queue_s")), frames.time_s("remote_s"), np.nan)


def _server_queue_s(frames: Frames) -> Column:
    queue_s = np.maximum(0.0, frames.time_s("server_queue_s") - _or_zero(frames.time_s("server_decode_s")))
    return np.where(np.isnan(frames.time_s("remote_s")), np.nan, queue_s)


def _plain(name: str) -> Callable[[Frames], Column]:
    return lambda frames: frames.time_s(name)


_SECONDS: dict[str, Callable[[Frames], Column]] = {
    "wait": _plain("wait_s"),
    "handover": _plain("handover_s"),
    "head": _plain("head_s"),
    "exit": _plain("exit_s"),
    "codec": _plain("encode_s"),
    "send": _plain("send_s"),
    "network": _network_s,
    "remote": _remote_s,
    "server decode": _plain("server_decode_s"),
    "server queue": _server_queue_s,
    "tail": _plain("server_compute_s"),
    "server answer": _plain("server_answer_s"),
    "in vain": _plain("vain_s"),
    "answer": _plain("answer_s"),
}


def stage_seconds(frames: Frames) -> Column:
    """Return the seconds of every stage [stages, frames], in the order of `STAGES`; NaN: did not happen."""
    return np.stack([_SECONDS[name](frames) for name in STAGE_NAMES])
