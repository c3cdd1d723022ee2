"""Traces that are made, not recorded: `constant:`, `step:`, `sine:`, `markov:` and the shipped `outage`."""

from __future__ import annotations

import math
import random
from itertools import pairwise

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
# A sine is held constant over this share of its period.
_SINE_STEPS = 64
_MARKOV_FOR_S = 60.0
_MOST_SEGMENTS = 1_000_000
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


def sine(text: str) -> RateTrace:
    """Return a link that swings between two rates, e.g. `sine("20kB..200kB@10s")`, from the middle upwards.

    Every step carries exactly what the sine does over its time.

    Raises:
        InputError: If `text` is not LOW..HIGH@PERIOD.
    """
    bounds, at, period = text.partition("@")
    low_text, dots, high_text = bounds.partition("..")
    if not at or not dots:
        raise InputError(f"trace 'sine:{text}': not LOW..HIGH@PERIOD; write sine:20kB..200kB@10s")
    low, high = parse_rate_bytes_per_s(low_text), parse_rate_bytes_per_s(high_text)
    if high < low:
        raise InputError(f"trace 'sine:{text}': {high_text} is below {low_text}; give the lower rate first")
    period_s, middle, swing = parse_duration_s(period), (low + high) / 2, (high - low) / 2
    angles = [2 * math.pi * index / _SINE_STEPS for index in range(_SINE_STEPS + 1)]
    rates = [
        # The mean of the sine between two angles; rounding must not take it below its own minimum.
        max(low, middle + swing * (math.cos(start) - math.cos(end)) / (end - start))
        for start, end in pairwise(angles)
    ]
    return RateTrace([(period_s / _SINE_STEPS, rate) for rate in rates], name=f"sine:{text}")


def markov(text: str) -> RateTrace:
    """Return a link that jumps between two rates, e.g. `markov("20kB@4s,0B@1s,seed=3,for=60s")`.

    A two-state Markov chain in continuous time (Gilbert 1960): how long a state is held is exponentially
    distributed with the mean that stands behind its @. It begins in the first state.

    Raises:
        InputError: If `text` is not RATE@MEAN,RATE@MEAN with an optional seed (default 0) and length.
    """
    remedy = f"trace 'markov:{text}': write markov:20kB@4s,0B@1s,seed=0,for=60s"
    states, options = [], {"seed": "0", "for": f"{_MARKOV_FOR_S:g}s"}
    for part in text.split(","):
        rate_text, at, mean = part.partition("@")
        name, equals, value = part.partition("=")
        if at:
            states.append((parse_duration_s(mean), parse_rate_bytes_per_s(rate_text)))
        elif equals and name in options:
            options[name] = value
        else:
            raise InputError(f"{remedy}; {part!r} is neither RATE@MEAN nor seed=N nor for=TIME")
    length_s = parse_duration_s(options["for"])
    if len(states) != 2 or not options["seed"].isdecimal() or len(options["seed"]) > 18:
        raise InputError(f"{remedy}; two states and a whole seed are needed")
    if min(mean_s for mean_s, _ in states) * _MOST_SEGMENTS < length_s or length_s == 0:
        raise InputError(f"{remedy}; a mean or the length is out of proportion")
    draws = random.Random(int(options["seed"]))
    segments, at_s = list[tuple[float, float]](), 0.0
    while at_s < length_s:
        mean_s, rate = states[len(segments) % 2]
        held_s = min(draws.expovariate(1.0 / mean_s), length_s - at_s)
        # A draw of exactly 0 would be no segment; the chain goes on.
        segments.append((max(held_s, 1e-9), rate))
        at_s += held_s
    return RateTrace(segments, name=f"markov:{text}")


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
