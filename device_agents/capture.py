"""The capture clock: asks a source for an image whenever one is due.

Decides which frames exist: a camera goes on while the agent is busy, so frames that fell due meanwhile are
captured as well. Knows only the monotonic clock; one that is set has no effect.
"""

from __future__ import annotations

import asyncio
import math
import time

from isthmus.device_agents.pipeline import Pipeline
from isthmus.device_agents.sources import FrameSource, NoNewFrame, SourceEnded
from isthmus.runtime.session.timing import RecentMedian

# After more than this without a turn the process itself was stopped, and nothing was captured.
_LONGEST_LAG_S = 1.0
# A timer wakes an idle processor some 0.2 ms late, and deciding takes its time; the timer is set earlier by
# what both have taken lately, but by no more than this.
_LARGEST_LEAD_S = 2e-3


async def capture_frames(
    source: FrameSource,
    pipeline: Pipeline,
    *,
    fps: float,
    frames: int | None = None,
    duration_s: float | None = None,
) -> None:
    """Capture from `source` until it ends, or until `frames` or `duration_s` are reached.

    Args:
        source: Where images come from.
        pipeline: Takes them.
        fps: Frames per second.
        frames: How many at most; None: no such limit.
        duration_s: Seconds at most; None: no such limit.
    """
    period_s = 1.0 / fps
    due_s = free_s = time.monotonic()
    # Sums of periods are not exact, and a frame due at the very end would be one too many.
    end_s = due_s + (duration_s or math.inf) - 1e-6
    rest = frames or math.inf
    lead = RecentMedian()
    # A source that may have no frame is not decided for ahead: a choice for nothing would count as one made.
    steady = True
    while rest > 0 and due_s < end_s:
        now_s = time.monotonic()
        wake_s = due_s - min(lead.seconds, _LARGEST_LEAD_S, period_s / 4)
        if now_s < wake_s:
            pipeline.advance()
            await asyncio.sleep(max(0.0, wake_s - time.monotonic()))
            if steady:
                pipeline.prepare(due_s)
            now_s = free_s = time.monotonic()
            lead.add(now_s - wake_s)
        if now_s - due_s > _LONGEST_LAG_S:
            due_s = now_s
        try:
            image, truth = source.frame()
        except SourceEnded:
            break
        except NoNewFrame:
            steady = False
        else:
            # Captured when it was due: what we were late to notice is part of the frame's latency.
            pipeline.capture(image, min(due_s, now_s), truth)
            rest -= 1
        due_s += period_s
        # Frames that fell due meanwhile are captured in one go, unless that itself takes a period.
        if time.monotonic() - free_s >= period_s:
            pipeline.advance()
            await asyncio.sleep(0)
            free_s = time.monotonic()
    pipeline.advance()
