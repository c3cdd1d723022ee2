"""The figures of a cut that somebody names, whatever the constraints say, and which of them it breaks."""

from __future__ import annotations

from isthmus.partitioner.search.found import Split
from isthmus.partitioner.search.learned import device_side
from isthmus.partitioner.search.problem import SearchProblem
from isthmus.partitioner.search.scoring import ROUNDING, Scorer
from isthmus.runtime.errors import PlanError
from isthmus.runtime.units import format_bytes, format_duration


def score(problem: SearchProblem, cut: frozenset[str]) -> tuple[Split, ...]:
    """Return the split at `cut` once for every way to send its inputs that no other way beats.

    No tensors are everything on the device, the network's inputs everything on the server. The split is empty
    if a tensor of unknown size, or an input that may not leave the device, would have to cross.

    Raises:
        PlanError: If a name is not one of the graph's tensors, or these are not all tensors that cross.
    """
    names = {tensor.name for tensor in problem.graph.tensors}
    for name in sorted(cut - names):
        raise PlanError(f"cut: no tensor {name!r} in the graph")
    scorer = Scorer(problem)
    state = scorer.state_of(device_side(scorer, cut, "cut"))
    return tuple(scorer.split(candidate) for candidate in scorer.candidates(state))


def refusals(problem: SearchProblem, split: Split) -> tuple[str, ...]:
    """Return the constraints that `split` breaks, each in a few words.

    Pins do not bind nodes that a bottleneck's encoder replaces.
    """
    limits, nodes = problem.constraints, problem.graph.nodes
    found = []
    runs_head = split.bottleneck is None or split.bottleneck.keeps_head
    for index, node in enumerate(nodes):
        on_device = bool(split.device_mask >> index & 1)
        if node.pin == ("server" if on_device else "device") and (runs_head or not on_device):
            found.append(f"{node.key} has to run on the {node.pin}")
    if (
        limits.allowed_cuts is not None
        and 0 < split.device_mask < (1 << len(nodes)) - 1
        and frozenset(split.frontier) not in limits.allowed_cuts
    ):
        found.append("not among the allowed cuts")
    most = limits.device_memory_bytes
    if most is not None and split.memory_bytes > most:
        found.append(
            f"needs {format_bytes(split.memory_bytes)} on the device, more than {format_bytes(most)}"
        )
    asked = limits.deadline_probability
    if split.on_time is not None and limits.deadline_s is not None and split.on_time < asked - ROUNDING:
        deadline = format_duration(float(limits.deadline_s))
        found.append(
            f"meets {deadline} with a probability of {float(split.on_time):.2g}, not {float(asked):.2g}"
        )
    return tuple(found)
