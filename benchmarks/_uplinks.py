"""Uplink traces for benchmarks: which are for tuning, which for the report, and the windows that are run.

Tuning: `hsdpa_3g`, `oboe`, `lte_ghent_4g`: downlinks, recorded once a second or less often. What matters to a
controller is how the rate changes relative to its mean, and the payloads are scaled to that; but a cellular
uplink also varies within a second. So each window is used as recorded, as packets of 1,500 bytes that come as
a Poisson process at that rate, and as packets whose rate varies besides. Report: the real uplinks of
`mahimahi`.
"""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.runtime.errors import InputError
from isthmus.runtime.links import RateTrace, load_trace

TUNING_SETS = ("hsdpa_3g", "oboe", "lte_ghent_4g")
VARIANTS = ("recorded", "packets", "varied packets")
_PACKET_BYTES = 1500
_BIN_S = 0.02
# Of the logarithm of the rate, as an Ornstein-Uhlenbeck process: its spread, and the seconds it remembers.
_SPREAD, _MEMORY_S = 0.5, 1.0
# What is slower than this over a whole window is an outage, not a link.
_LEAST_RATE = 5_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of an uplink.

    Attributes:
        trace: The rate, on the clock that `start_s` belongs to.
        link: The recording's name.
        variant: One of `VARIANTS`.
        start_s: Where the stretch begins.
        mean_rate: Bytes per second that payloads are scaled to.
        seed: Of the frames' sizes.
    """

    trace: RateTrace
    link: str
    variant: str
    start_s: float
    mean_rate: float
    seed: int


def trace_folder() -> Path:
    """Return the folder of the recorded traces.

    Raises:
        InputError: If there is none.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ISTHMUS_DATA", default)) / "traces"
    if not folder.is_dir():
        raise InputError(f"{folder}: no traces; set ISTHMUS_DATA to the folder that holds traces/")
    return folder


def report_windows(seeds: int, duration_s: float) -> list[Window]:
    """Return windows of every real uplink: per seed one, drawn anywhere in the recording."""
    windows = []
    for file in sorted((trace_folder() / "mahimahi").glob("*.up")):
        trace = load_trace(str(file))
        for seed in range(seeds):
            # The first one begins with the recording.
            latest_s = max(0.0, trace.duration_s - duration_s)
            start_s = random.Random(f"{file.name} {seed}").uniform(0.0, latest_s) if seed else 0.0
            windows.append(
                Window(
                    trace=trace,
                    link=file.name.removesuffix(".up"),
                    variant="recorded",
                    start_s=start_s,
                    mean_rate=trace.mean_rate,
                    seed=seed,
                )
            )
    return windows


def tuning_windows(recordings: int, duration_s: float, seed: int = 5) -> list[Window]:
    """Return each variant of one window of `recordings` files per tuning set."""
    rng = random.Random(f"tuning {seed}")
    windows: list[Window] = []
    for name in TUNING_SETS:
        files = sorted((trace_folder() / name).iterdir())
        for file in rng.sample(files, min(recordings, len(files))):
            trace = load_trace(str(file))
            start_s = rng.uniform(0.0, max(0.0, trace.duration_s - duration_s))
            mean_rate = trace.bytes_between(start_s, start_s + duration_s) / duration_s
            if mean_rate < _LEAST_RATE:
                continue
            for variant in VARIANTS:
                drawn, begin_s = trace, start_s
                if variant != "recorded":
                    spread = _SPREAD if variant == "varied packets" else 0.0
                    drawn = _packets(trace, start_s, duration_s, spread, rng.randrange(1 << 30))
                    begin_s = 0.0
                windows.append(
                    Window(
                        trace=drawn,
                        link=f"{name}/{file.name}",
                        variant=variant,
                        start_s=begin_s,
                        mean_rate=mean_rate,
                        seed=len(windows),
                    )
                )
    return windows


def _packets(trace: RateTrace, start_s: float, duration_s: float, spread: float, seed: int) -> RateTrace:
    rng = np.random.default_rng(seed)
    level = 0.0
    segments: list[tuple[float, float]] = []
    pull, push = _BIN_S / _MEMORY_S, spread * math.sqrt(2 * _BIN_S / _MEMORY_S)
    # A little longer than the window: what is under way at its end must not meet the beginning again.
    for index in range(math.ceil((duration_s + 2.0) / _BIN_S)):
        level += push * rng.standard_normal() - pull * level
        rate = trace.rate_at(start_s + index * _BIN_S) * math.exp(level - spread**2 / 2)
        packets = rng.poisson(rate * _BIN_S / _PACKET_BYTES)
        segments.append((_BIN_S, float(packets) * _PACKET_BYTES / _BIN_S))
    return RateTrace(segments, name=f"{trace.name} as packets")
