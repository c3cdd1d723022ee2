"""Choose among the candidates, and say in one sentence what to do and why.

Decides when a split is worth it. The reason always names the best alternative and what it would have taken,
so that nobody mistakes a bottleneck that was asked for with one that wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from isthmus.partitioner.facts import BottleneckAssumption, BottleneckRules
from isthmus.partitioner.plan import Candidate, Choice, Kind
from isthmus.partitioner.ranking import best_bottleneck, fastest, total
from isthmus.runtime.errors import PlanError
from isthmus.runtime.units import format_bytes, format_duration

# A second machine for less than this is not worth having, and two medians differ by as much on a busy host.
MIN_GAIN = 1.05

_ENDPOINTS: tuple[Kind, ...] = ("local", "offload")
_INTERIOR: tuple[Kind, ...] = ("split", "bottleneck")


def decide(
    candidates: Sequence[Candidate],
    *,
    objective: Literal["latency", "bottleneck"],
    rules: BottleneckRules,
    assumption: BottleneckAssumption,
    deadline_s: float | None = None,
) -> Choice:
    """Return what to do.

    Args:
        candidates: As `enumerate_candidates` gives them, finalists measured.
        objective: `latency` takes the fastest, but an interior cut only if it beats the better endpoint by
            `MIN_GAIN` (and if that is a bottleneck, the best of those that count as equally fast);
            `bottleneck` takes the best bottleneck, whatever would be faster.
        rules: For the bottleneck.
        assumption: For the sentence.
        deadline_s: Budget of a frame in seconds, if there is one.

    Raises:
        PlanError: If a bottleneck is asked for and none may stand anywhere; says why not.
    """
    endpoint = fastest(candidates, _ENDPOINTS)
    assert endpoint is not None, "running everything on the device is always possible"
    interior = fastest(candidates, _INTERIOR)
    if objective == "bottleneck":
        best = best_bottleneck(candidates, rules)
        if best is None:
            raise PlanError(_nowhere(candidates))
        chosen = best
        alternative: int | None = _quicker(candidates, endpoint, fastest(candidates, ("split",)))
    elif interior is not None and total(candidates[interior]) * MIN_GAIN < total(candidates[endpoint]):
        chosen, alternative = _trainable(candidates, interior, endpoint, rules), endpoint
    else:
        chosen, alternative = endpoint, interior
    item = candidates[chosen]
    other = None if alternative is None else candidates[alternative]
    met = None if deadline_s is None else total(item) <= deadline_s
    reason = _headline(item, assumption) + _compared(item, other) + _deadline(candidates, item, deadline_s)
    return Choice(
        kind=item.kind,
        cut=item.cut,
        module=item.module,
        candidate=chosen,
        total_s=item.times.total_s,
        gain=_gain(item, other),
        deadline_met=met,
        reason=reason,
    )


def _trainable(candidates: Sequence[Candidate], interior: int, endpoint: int, rules: BottleneckRules) -> int:
    """Return the best bottleneck instead of the fastest one, as long as it beats the endpoint as well."""
    best = best_bottleneck(candidates, rules) if candidates[interior].kind == "bottleneck" else None
    worth_it = best is not None and total(candidates[best]) * MIN_GAIN < total(candidates[endpoint])
    return best if best is not None and worth_it else interior


def _quicker(candidates: Sequence[Candidate], one: int, other: int | None) -> int:
    return one if other is None or total(candidates[one]) <= total(candidates[other]) else other


def _gain(item: Candidate, other: Candidate | None) -> float | None:
    if other is None or math.inf in (total(item), total(other)) or total(item) == 0:
        return None
    return total(other) / total(item)


def _headline(item: Candidate, assumption: BottleneckAssumption) -> str:
    if item.kind == "local":
        return f"do not split: run all of it on the device ({_time(item)})"
    if item.kind == "offload":
        return (
            f"do not split: send the input as {item.encoding} ({format_bytes(item.payload_bytes)}) "
            f"and run all of it on the server ({_time(item)})"
        )
    place = f"{item.cut!r}" + (f" (module {item.module})" if item.module else "")
    if item.kind == "split":
        return f"split at {place} ({format_bytes(item.payload_bytes)} cross): {_time(item)}"
    return (
        f"train a bottleneck at {place}: {_time(item)}, assuming an encoder of "
        f"{assumption.encoder_fraction:.2g} of the head and a payload of {format_bytes(item.payload_bytes)}"
    )


def _compared(item: Candidate, other: Candidate | None) -> str:
    if other is None:
        return "; no other cut is possible"
    gain = _gain(item, other)
    name = _name(other)
    if gain is None:
        return f"; with {name} no frame would ever be answered" if total(other) == math.inf else ""
    if MIN_GAIN > gain > 1 / MIN_GAIN:
        return f"; {name} takes as long ({_time(other)})"
    if gain >= 1:
        return f"; {_factor(gain)}x faster than {name} ({_time(other)})"
    return f"; {name} would be {_factor(1 / gain)}x faster ({_time(other)})"


def _name(item: Candidate) -> str:
    """Return what to call an alternative in the middle of a sentence."""
    if item.kind == "local":
        return "running it all on the device"
    if item.kind == "offload":
        return f"sending the input as {item.encoding}"
    if item.kind == "split":
        return f"a split at {item.cut!r}"
    return f"a bottleneck (assumed) at {item.cut!r}"


def _deadline(candidates: Sequence[Candidate], item: Candidate, deadline_s: float | None) -> str:
    if deadline_s is None:
        return ""
    limit = format_duration(deadline_s)
    meets = total(item) <= deadline_s
    text = f"; it {'meets' if meets else 'misses'} the deadline of {limit}"
    # A bottleneck costs accuracy that only training will tell; the others answer like the whole network.
    exact = fastest(candidates, ("local", "offload", "split"))
    if item.kind == "bottleneck" and exact is not None and total(candidates[exact]) <= deadline_s:
        name = _name(candidates[exact])
        text += f", and so does {name}, which costs no accuracy" if meets else f", {name} meets it"
    return text


def _factor(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _time(item: Candidate) -> str:
    seconds = item.times.total_s
    return "never" if seconds is None else format_duration(seconds)


def _nowhere(candidates: Sequence[Candidate]) -> str:
    """Return why no bottleneck may stand anywhere, the most frequent reason first."""
    reasons: dict[str, int] = {}
    for item in candidates:
        if item.kind == "bottleneck" and item.refused is not None:
            reasons[item.refused] = reasons.get(item.refused, 0) + 1
    if not reasons:
        return "no cut of this network is a feature map [n, C, h, w]; a bottleneck needs one"
    listed = ", ".join(
        f"{reason} ({count}x)" for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
    )
    return f"no cut fits a bottleneck: {listed}; relax the rules or allow other cuts"
