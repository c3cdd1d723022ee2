"""Choose among the candidates, and say in one sentence what to do and why.

Decides when a split is worth it. The reason always names the best alternative and what it would have taken,
so that nobody mistakes a bottleneck that was asked for with one that wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from isthmus.partitioner.facts import BottleneckAssumption, BottleneckRules
from isthmus.partitioner.goal import Goal
from isthmus.partitioner.plan import Candidate, Choice, Kind
from isthmus.partitioner.ranking import best, best_bottleneck
from isthmus.runtime.errors import PlanError
from isthmus.runtime.units import format_bytes, format_duration

# A second machine for less than this is not worth having, and two medians differ by as much on a busy host.
MIN_GAIN = 1.05

_ENDPOINTS: tuple[Kind, ...] = ("local", "offload")
_INTERIOR: tuple[Kind, ...] = ("split", "bottleneck")


def decide(
    candidates: Sequence[Candidate],
    goal: Goal,
    *,
    rules: BottleneckRules,
    assumption: BottleneckAssumption,
) -> Choice:
    """Return what to do.

    Args:
        candidates: All of them, finalists measured.
        goal: `best` takes the best, but an interior cut only if it beats the better endpoint by `MIN_GAIN`
            (and if that is an assumed bottleneck, the best to train of those that count as equally good);
            `bottleneck` takes the best place to train one, whatever would be better. What meets the deadline
            comes before what does not.
        rules: For the bottleneck.
        assumption: For the sentence.

    Raises:
        PlanError: If nothing keeps the constraints, or a bottleneck is asked for and none may stand anywhere;
            says why not.
    """
    endpoint, interior = (best(candidates, kinds, goal) for kinds in (_ENDPOINTS, _INTERIOR))
    if goal.asked.choose == "bottleneck":
        found = best_bottleneck(candidates, rules, goal)
        if found is None:
            raise PlanError(_nowhere(candidates))
        chosen, alternative = found, _better(candidates, goal, endpoint, best(candidates, ("split",), goal))
    elif endpoint is None and interior is None:
        raise PlanError(f"nothing keeps the constraints: {_refusals(candidates)}; relax one of them")
    elif endpoint is None or (interior is not None and _wins(candidates, goal, interior, endpoint)):
        assert interior is not None, "one of the two is there"
        chosen, alternative = _trainable(candidates, interior, endpoint, rules, goal), endpoint
    else:
        chosen, alternative = endpoint, interior
    item = candidates[chosen]
    other = None if alternative is None else candidates[alternative]
    reason = _headline(item, goal, assumption) + _compared(item, other, goal)
    return Choice(
        kind=item.kind,
        cut=item.cut,
        module=item.module,
        candidate=chosen,
        total_s=item.times.total_s,
        gain=_gain(item, other, goal),
        deadline_met=None if goal.asked.deadline_s is None else goal.in_time(item),
        reason=reason + _deadline(candidates, item, goal),
    )


def _wins(candidates: Sequence[Candidate], goal: Goal, interior: int, endpoint: int) -> bool:
    """Say whether an interior cut is worth a second machine: in time first, then by enough."""
    one, other = candidates[interior], candidates[endpoint]
    if goal.in_time(one) != goal.in_time(other):
        return goal.in_time(one)
    return goal.value(one) * MIN_GAIN < goal.value(other)


def _trainable(
    candidates: Sequence[Candidate], interior: int, endpoint: int | None, rules: BottleneckRules, goal: Goal
) -> int:
    """Return the best place to train instead of the best assumed one, as long as it wins as well."""
    if not candidates[interior].assumed:
        return interior
    found = best_bottleneck(candidates, rules, goal)
    worth_it = found is not None and (endpoint is None or _wins(candidates, goal, found, endpoint))
    return found if found is not None and worth_it else interior


def _better(candidates: Sequence[Candidate], goal: Goal, *options: int | None) -> int | None:
    there = [index for index in options if index is not None]
    return min(there, key=lambda index: goal.key(candidates[index]), default=None)


def _gain(item: Candidate, other: Candidate | None, goal: Goal) -> float | None:
    if other is None or math.inf in (goal.value(item), goal.value(other)) or goal.value(item) == 0:
        return None
    return goal.value(other) / goal.value(item)


def _headline(item: Candidate, goal: Goal, assumption: BottleneckAssumption) -> str:
    shown = goal.show(item)
    if item.kind == "local":
        return f"do not split: run all of it on the device ({shown})"
    sent = format_bytes(item.payload_bytes)
    if item.kind == "offload":
        way = f"send the input as {item.encoding} ({sent})"
        return f"do not split: {way} and run all of it on the server ({shown})"
    place = f"{item.cut!r}" + (f" (module {item.module})" if item.module else "")
    if item.kind == "split":
        return f"split at {place} ({sent} cross): {shown}"
    if item.learned is not None:
        return (
            f"use the trained bottleneck at {place} with width {item.learned.width:g} and "
            f"{item.learned.channels} channels ({sent}, accuracy {item.learned.accuracy:.1%}): {shown}"
        )
    return (
        f"train a bottleneck at {place}: {shown}, assuming an encoder of "
        f"{assumption.encoder_fraction:.2g} of the head and a payload of {sent}"
    )


def _compared(item: Candidate, other: Candidate | None, goal: Goal) -> str:
    if other is None:
        interior = item.kind in _INTERIOR
        return f"; {'neither end alone keeps the constraints' if interior else 'no other cut is possible'}"
    gain = _gain(item, other, goal)
    name, shown = _name(other), goal.show(other)
    if gain is None:
        return f"; with {name} no frame would ever be answered" if other.times.total_s is None else ""
    if MIN_GAIN > gain > 1 / MIN_GAIN:
        same = "takes as long" if goal.asked.objective.kind == "latency" else "is as good"
        return f"; {name} {same} ({shown})"
    if gain >= 1:
        return f"; {_factor(gain)}x {goal.better} than {name} ({shown})"
    return f"; {name} would be {_factor(1 / gain)}x {goal.better} ({shown})"


def _name(item: Candidate) -> str:
    """Return what to call an alternative in the middle of a sentence."""
    if item.kind == "local":
        return "running it all on the device"
    if item.kind == "offload":
        return f"sending the input as {item.encoding}"
    if item.kind == "split":
        return f"a split at {item.cut!r}"
    if item.learned is not None:
        return f"the trained bottleneck at {item.cut!r} (width {item.learned.width:g})"
    return f"a bottleneck (assumed) at {item.cut!r}"


def _deadline(candidates: Sequence[Candidate], item: Candidate, goal: Goal) -> str:
    deadline_s, on_time = goal.asked.deadline_s, item.figures.on_time
    if deadline_s is None or on_time is None:
        return ""
    limit = format_duration(deadline_s)
    meets = goal.in_time(item)
    text = f"; it {'meets' if meets else 'misses'} the deadline of {limit}"
    if 0 < on_time < 1:
        text += f" ({on_time:.1%} of frames on time)"
    # A bottleneck costs accuracy that only training will tell; the others answer like the whole network.
    exact = best(candidates, ("local", "offload", "split"), goal)
    if item.kind == "bottleneck" and exact is not None and goal.in_time(candidates[exact]):
        name = _name(candidates[exact])
        text += f", and so does {name}, which costs no accuracy" if meets else f", {name} meets it"
    elif not meets and not any(goal.in_time(other) for other in candidates if other.refused is None):
        text += ", and so does everything else"
    return text


def _factor(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _refusals(candidates: Sequence[Candidate]) -> str:
    """Return why candidates are refused, the most frequent reason first."""
    reasons: dict[str, int] = {}
    for item in candidates:
        if item.refused is not None:
            reasons[item.refused] = reasons.get(item.refused, 0) + 1
    listed = sorted(reasons.items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{reason} ({count}x)" for reason, count in listed)


def _nowhere(candidates: Sequence[Candidate]) -> str:
    """Return why no bottleneck may stand anywhere."""
    places = [item for item in candidates if item.assumed]
    if not places:
        return "no cut of this network is a feature map [n, C, h, w]; a bottleneck needs one"
    return f"no cut fits a bottleneck: {_refusals(places)}; relax the rules or allow other cuts"
