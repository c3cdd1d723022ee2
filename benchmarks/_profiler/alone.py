"""What the profiler and the event log do for a frame, alone in a loop."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np

from isthmus.device_agents.profiling.conditions import PERIOD_S, Watch
from isthmus.device_agents.profiling.linked_target import FrameLog, LinkedTarget
from isthmus.device_agents.profiling.measuring import Extent, Gathering
from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.events import EventLog, FrameEvent


def own_work(calls: int) -> dict[str, float]:
    """Return processor seconds of what the profiler itself does: for a frame, and to look at the device."""
    gathered = Gathering(Extent(warm_up_s=0.0, least_s=1e9, most_s=1e9), begin=lambda: None)
    target = LinkedTarget(SimpleNamespace(), np.zeros((1,)))
    log, frame = FrameLog(target.ended), _a_frame()
    samples: list[Any] = []

    def one_frame() -> None:
        target._waiting[frame.frame] = (_Once(samples), 0.0)
        log.write(frame)
        gathered.take([samples.pop()])

    watch = Watch()
    figures = {"frame_cpu_s": _cpu_s(one_frame, calls), "look_cpu_s": _cpu_s(watch.look, calls // 20)}
    log.close()
    figures["looking_share"] = figures["look_cpu_s"] / PERIOD_S
    return figures


class _Once:
    """A future as `LinkedTarget` uses one, without an event loop."""

    def __init__(self, taken: list[Any]) -> None:
        self._taken = taken

    def done(self) -> bool:
        return False

    def set_result(self, sample: Any) -> None:
        self._taken.append(sample)


def _cpu_s(call: Any, calls: int) -> float:
    """Return the median processor seconds of a call, over batches."""
    batches = []
    for _ in range(10):
        began_s = time.thread_time()
        for _ in range(max(1, calls // 10)):
            call()
        batches.append((time.thread_time() - began_s) / max(1, calls // 10))
    return median(batches)


def log_times(calls: int) -> dict[str, float]:
    """Return seconds of writing one frame's line, of single calls into a file in the temporary folder."""
    frame, taken = _a_frame(), np.empty(calls)
    with tempfile.TemporaryDirectory() as folder:
        log = EventLog(Path(folder) / "events.jsonl")
        for number in range(calls):
            began_ns = time.perf_counter_ns()
            log.write(frame)
            taken[number] = time.perf_counter_ns() - began_ns
        log.close()
    middle, last = np.percentile(taken / 1e9, (50, 99))
    return {"median": float(middle), "p99": float(last), "calls": calls}


def _a_frame() -> FrameEvent:
    """Return the end of a frame that a server answered, with all that is known of one."""
    return FrameEvent(
        at_s=36603.556545724,
        frame=123_456,
        captured_s=36603.543099449,
        outcome="remote",
        point=OperatingPoint(width_index=3, channels=16),
        payload_bytes=302,
        answer=4,
        truth=4,
        latency_s=0.013446274999296293,
        wait_s=0.0004150589957134798,
        handover_s=0.00010543800453888252,
        head_s=0.002685967999,
        encode_s=0.000240307799772,
        send_s=0.000101234567,
        remote_s=0.0098765432101,
        server_received_s=123603.54978361,
        server_decode_s=0.000123,
        server_queue_s=0.000456,
        server_compute_s=0.003456,
        server_answer_s=0.000056,
        reason="0.93 expected, 302 B in 8 ms",
    )
