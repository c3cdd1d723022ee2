"""Prove that two halves together answer like the whole.

Decides what counts as proof: several inputs, another batch where there is one, and answers that depend on
the input by more than the tolerance; halves of a network that answers the same to everything would pass any
comparison.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.partitioner.cutting.cut import Halves
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.network.shapes import OTHER_BATCH
from isthmus.partitioner.running.execution import Feed, open_session, random_feed, run, session_options
from isthmus.runtime.errors import GateError, InputError

# Fusion differs between the halves and the whole, so floats differ in their last bits (7e-6 at most on five
# networks).
PARITY_TOLERANCE = 1e-4
# A half-precision tensor that crosses is rounded where the whole may keep more digits; so many of its last
# digits may differ.
_LAST_DIGITS = 16
# Where activations are quantised, a last bit of a float decides between two steps of 8 bits.
_QUANTISED = 2 / 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far tail(head(x)) is from the whole.

    Attributes:
        max_abs_diff: Largest absolute difference.
        max_rel_diff: Largest absolute difference divided by the largest absolute value of the same output.
        feeds: How many inputs were compared.
    """

    max_abs_diff: float
    max_rel_diff: float
    feeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the whole network answers: `answers[i]` to `feeds[i]`."""

    feeds: tuple[Feed, ...]
    answers: tuple[Feed, ...]


def run_whole(network: Network, *, real: Sequence[Feed] = (), seed: int = 0) -> Reference:
    """Run the untouched network on two random inputs, those in `real`, and another batch if it takes one.

    Args:
        network: The network.
        real: Further inputs, by name.
        seed: For the random inputs.

    Raises:
        InputError: If ONNX Runtime cannot run it on one of the first.
    """
    whole = open_session(network.original, network.name, _exact_options(), folder=network.folder)
    rng = np.random.default_rng(seed)
    feeds = [*(random_feed(_inputs(network), rng) for _ in range(2)), *real]
    answers = [run(whole, feed, network.name) for feed in feeds]
    if network.dynamic_batch:
        feed = random_feed(_inputs(network, batch=OTHER_BATCH), rng)
        # Some networks declare a dynamic batch and yet take none but one sample.
        with contextlib.suppress(InputError):
            answers.append(run(whole, feed, network.name))
            feeds.append(feed)
    return Reference(feeds=tuple(feeds), answers=tuple(answers))


def check_parity(
    network: Network,
    halves: Halves,
    *,
    real: Sequence[Feed] = (),
    tolerance: float = PARITY_TOLERANCE,
    seed: int = 0,
    reference: Reference | None = None,
) -> Parity:
    """Compare tail(head(x)) with the untouched network on random inputs and on those in `real`.

    Args:
        network: The whole.
        halves: Its halves.
        real: Further inputs, by name.
        tolerance: Largest relative difference that is accepted; raised to 16 units in the last place of the
            coarsest float type that crosses or is answered (1.6e-2 for float16), and to 2/255 for a network
            with quantised operators.
        seed: For the random inputs.
        reference: What `run_whole` returned, to compare many cuts with one; `real` and `seed` are its then.

    Raises:
        GateError: If outputs hardly depend on the input, are not finite, or differ by more than `tolerance`.
        InputError: If ONNX Runtime cannot run the network or a half.
    """
    where = f"{network.name} cut at {', '.join(halves.frontier)}"
    reference = reference or run_whole(network, real=real, seed=seed)
    rounding = _rounding(network, halves)
    behind = [value.name for value in halves.tail.graph.output]
    _refuse_degenerate(reference, behind, max(PARITY_TOLERANCE, rounding), network.name)
    options = _exact_options()
    head, tail = (
        open_session(half, where, options, folder=halves.folder) for half in (halves.head, halves.tail)
    )
    worst_abs = worst_rel = 0.0
    for feed, answer in zip(reference.feeds, reference.answers, strict=True):
        made = run(head, feed, where)
        joined = {**made, **run(tail, {**feed, **made}, where)}
        for name, expected in answer.items():
            absolute, relative = _difference(expected, joined[name], f"{where}: output {name!r}")
            worst_abs, worst_rel = max(worst_abs, absolute), max(worst_rel, relative)
    if worst_rel > max(tolerance, rounding):
        raise GateError(
            f"{where}: head and tail differ from the whole by {worst_rel:.2g} of the largest output, "
            f"more than {max(tolerance, rounding):.2g}; do not use this cut"
        )
    return Parity(max_abs_diff=worst_abs, max_rel_diff=worst_rel, feeds=len(reference.feeds))


def _exact_options() -> Any:
    """Return options that keep activations as they are.

    By default ONNX Runtime may round them to 8 bits in front of quantised weights, and does so or not by what
    surrounds a node: that would be compared, not the cut.
    """
    options = session_options(1)
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return options


def _inputs(network: Network, *, batch: int = 1) -> list[Any]:
    return [network.shapes.fact(value.name, batch=batch) for value in network.proto.graph.input]


def _rounding(network: Network, halves: Halves) -> float:
    """Return by how much two correct halves may differ from the whole, given the types of what they round."""
    names = [*halves.frontier, *network.graph.outputs]
    kinds = {network.graph.tensors[name].dtype for name in names} & {"float16", "float32", "float64"}
    steps = [_LAST_DIGITS * float(np.finfo(kind).eps) for kind in kinds]
    if any(_is_quantised(node.op_type) for node in network.proto.graph.node):
        steps.append(_QUANTISED)
    return max(steps, default=0.0)


def _is_quantised(operator: str) -> bool:
    return "quantize" in operator.lower() or operator.startswith("QLinear") or operator.endswith("Integer")


def _refuse_degenerate(reference: Reference, behind: Sequence[str], tolerance: float, name: str) -> None:
    """Refuse answers of the tail that different inputs hardly change: a wrong tail could give them too."""
    first, *others = zip(reference.feeds, reference.answers, strict=True)
    for feed, answer in others:
        if any(feed[key].shape != first[0][key].shape for key in first[0]):
            continue  # another batch: its answers differ in shape if in nothing else
        for output in behind:
            one, other = first[1][output], answer[output]
            if (
                one.shape != other.shape
                or _difference(one, other, f"{name}: output {output!r}")[1] > tolerance
            ):
                return
    raise GateError(
        f"{name}: its outputs are the same for different inputs, so parity would prove nothing; "
        "give it trained or randomised weights"
    )


def _difference(expected: NDArray[Any], found: NDArray[Any], where: str) -> tuple[float, float]:
    """Return the largest absolute difference, and the same relative to the largest expected value."""
    if expected.shape != found.shape:
        raise GateError(f"{where} has shape {found.shape} from the halves, {expected.shape} from the whole")
    if expected.dtype != found.dtype:
        raise GateError(f"{where} is of type {found.dtype} from the halves, {expected.dtype} from the whole")
    if expected.size == 0:
        return 0.0, 0.0
    if not np.issubdtype(expected.dtype, np.number):
        same = bool(np.array_equal(expected, found))
        return (0.0, 0.0) if same else (1.0, 1.0)
    wide, other = expected.astype(np.float64), found.astype(np.float64)
    if not (np.isfinite(wide).all() and np.isfinite(other).all()):
        raise GateError(f"{where} is not finite; the comparison would prove nothing")
    absolute = float(np.abs(wide - other).max())
    scale = float(np.abs(wide).max())
    return absolute, absolute / scale if scale else (0.0 if absolute == 0 else float("inf"))
