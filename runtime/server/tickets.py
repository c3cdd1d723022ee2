"""What a frame is while it waits for its tail, while it is computed, and afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.errors import IsthmusError
from isthmus.runtime.server.deadline_queue import Place

log = logging.getLogger("isthmus.server")


@dataclass(slots=True)
class Computed:
    """A frame's result: `outputs_nc` float32 [rows, classes], and when and how long its batch ran."""

    outputs_nc: NDArray[np.float32]
    started_s: float
    compute_s: float


# None: the deadline passed, or would have, before the batch was done.
Result = Computed | IsthmusError | None


@dataclass(slots=True, eq=False)
class Ticket:
    """A frame that waits: its latents uint8 [c, H, W], and who is told the result; None: nobody any more."""

    latents: Sequence[NDArray[np.uint8]]
    done: Callable[[Result], None] | None
    place: Place[Ticket] | None = None


@dataclass(slots=True, eq=False)
class Work:
    """One batch: its frames, those found to be too late when it was taken, and what came of it."""

    frames: Sequence[Ticket]
    expired: Sequence[Ticket]
    rows: int
    outputs_nc: NDArray[np.float32] | None = None
    fault: IsthmusError | None = None
    started_s: float = 0.0
    compute_s: float = 0.0


def tell_all(frames: Sequence[Ticket], result: IsthmusError | None) -> None:
    """Tell each of `frames` the same `result`."""
    for frame in frames:
        tell(frame, result)


def tell(frame: Ticket, result: Result) -> None:
    """Tell `frame` its `result`, if anybody still wants to know."""
    if frame.done is None:
        return
    try:
        frame.done(result)
    except Exception:  # our bug; the other frames of the batch are answered all the same
        log.exception("an answer")
