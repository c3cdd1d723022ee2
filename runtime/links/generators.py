"""Traces that are made, not recorded: `constant:`, `step:` and the shipped uplink `outage`."""

from __future__ import annotations

import random

from isthmus.runtime.errors import InputError
from isthmus.runtime.links.trace import RateTrace
from isthmus.runtime.units import parse_duration_s, parse_rate_bytes_per_s

# (seconds, bytes per second) of the shipped uplink: good, falling until only small payloads meet 150 ms,
# a short recovery, no byte for 3.5 s, and good again for long enough that payloads widen.
OUTAGE_PHASES = (
    (4.0, 20_000.0),
    (2.5, 10_000.0),
    (2.5, 6_000.0),
    (2.5, 4_000.0),
    (2.0, 12_000.0),
    (3.5, 0.0),
    (3.0, 18_000.0),
    (4.0, 22_000.0),
)
_OUTAGE_STEP_S = 0.25
_OUTAGE_NOISE = 0.06
_OUTAGE_SEED = 2


def constant(text: str) -> RateTrace:
    """Return a link of one rate, e.g. `constant("1.5Mbit")`.

    Raises:
        InputError: If `text` is not a rate.
    """
    return RateTrace([(1.0, parse_rate_bytes_per_s(text))], name=f"constant:{text}")


def step(text: str) -> RateTrace:
    """Return a link that walks through rates, each held for a time, e.g. `step("20kB@5s,3kB@5s,0B@3s")`.

    Raises:
        InputError: If a step is not RATE@DURATION.
    """
    segments = []
    for part in text.split(","):
        rate, separator, held = part.partition("@")
        if not separator:
            raise InputError(
                f"trace 'step:{text}': {part!r} is not RATE@DURATION; write step:20kB@5s,3kB@5s,0B@3s"
            )
        segments.append((parse_duration_s(held), parse_rate_bytes_per_s(rate)))
    return RateTrace(segments, name=f"step:{text}")


def outage_csv() -> str:
    """Return the text of the shipped uplink, which `data/outage.csv` holds byte for byte."""
    noise = random.Random(_OUTAGE_SEED)
    lines = [
        "# A synthetic uplink with an outage, made by isthmus.runtime.links.generators; not a recording.",
        "# seconds,Mbit/s: the rate until that second.",
    ]
    at_s = 0.0
    for seconds, rate in OUTAGE_PHASES:
        for _ in range(round(seconds / _OUTAGE_STEP_S)):
            at_s += _OUTAGE_STEP_S
            noisy = rate * (1 + noise.uniform(-_OUTAGE_NOISE, _OUTAGE_NOISE))
            lines.append(f"{at_s:.2f},{noisy * 8e-6:.6f}")
    return "\n".join(lines) + "\n"
