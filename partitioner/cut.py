"""Cut a network in two, and prove that the halves together are the whole.

Decides what a valid pair of halves is. A half that loses a bypass tensor still looks like a model, so the
frontier is checked before extraction, the halves by ONNX's checker after it, and their answers against the
whole's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.utils import Extractor

from isthmus.partitioner.execution import Feed, open_session, random_feed, run, session_options
from isthmus.partitioner.model import Network
from isthmus.runtime.errors import GateError, InputError, PlanError

# Fusion differs between the halves and the whole, so floats differ in their last bits (7e-6 at most on five
# networks).
PARITY_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Halves:
    """The two halves of a network at a frontier.

    Attributes:
        frontier: The tensors that cross.
        head: From the network's inputs to the frontier.
        tail: From the frontier to those outputs that are not themselves in the frontier.
    """

    frontier: tuple[str, ...]
    head: ModelProto
    tail: ModelProto


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


def extract_halves(network: Network, frontier: Sequence[str]) -> Halves:
    """Return head and tail of `network` at `frontier`, checked.

    Operator set and IR version stay the network's.

    Raises:
        PlanError: If a tensor does not exist, has no fixed size, or something passes beside the frontier.
    """
    cut = tuple(dict.fromkeys(frontier))
    network.graph.require_cut(cut, network.name)
    for name in cut:
        if network.graph.tensors[name].nbytes is None:
            raise PlanError(f"{network.name}: tensor {name!r} has no fixed size, so it cannot cross")
    outputs = [value.name for value in network.proto.graph.output if value.name not in cut]
    if not outputs or all(name in network.graph.inputs for name in cut):
        raise PlanError(f"{network.name}: cutting at {', '.join(cut)} leaves one half empty")
    extractor = Extractor(network.proto)
    try:
        halves = Halves(
            frontier=cut,
            head=_plain(extractor.extract_model(list(network.graph.inputs), list(cut))),
            tail=_plain(extractor.extract_model(list(cut), outputs)),
        )
        for half in (halves.head, halves.tail):
            onnx.checker.check_model(half)
    except (ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PlanError(f"{network.name}: cutting at {', '.join(cut)} is not valid: {reason}") from None
    return halves


def check_parity(
    network: Network,
    halves: Halves,
    *,
    real: Sequence[Feed] = (),
    tolerance: float = PARITY_TOLERANCE,
    seed: int = 0,
) -> Parity:
    """Compare tail(head(x)) with the untouched network on random inputs and on those in `real`.

    The outputs must first be seen to depend on the input: halves of a network that answers the same to
    everything would pass any comparison.

    Args:
        network: The whole.
        halves: Its halves.
        real: Further inputs, by name.
        tolerance: Largest relative difference that is accepted.
        seed: For the random inputs.

    Raises:
        GateError: If outputs are constant or not finite, or differ by more than `tolerance`.
    """
    where = f"{network.name} cut at {', '.join(halves.frontier)}"
    options = session_options(1)
    whole = open_session(network.original, network.name, options)
    head, tail = (open_session(half, where, options) for half in (halves.head, halves.tail))
    feeds = [*_random_feeds(network, seed), *real]
    answers = [run(whole, feed, network.name) for feed in feeds]
    _refuse_constant(answers, network.name)
    worst_abs = worst_rel = 0.0
    for feed, answer in zip(feeds, answers, strict=True):
        crossing = run(head, feed, where)
        joined = {**crossing, **run(tail, crossing, where)}
        for name, expected in answer.items():
            absolute, relative = _difference(expected, joined[name], f"{where}: output {name!r}")
            worst_abs, worst_rel = max(worst_abs, absolute), max(worst_rel, relative)
    if worst_rel > tolerance:
        raise GateError(
            f"{where}: head and tail differ from the whole by {worst_rel:.2g} of the largest output, "
            f"more than {tolerance:.2g}; do not use this cut"
        )
    return Parity(max_abs_diff=worst_abs, max_rel_diff=worst_rel, feeds=len(feeds))


def write_halves(halves: Halves, folder: Path) -> tuple[Path, Path]:
    """Write `halves` below `folder` as CUT/head.onnx and CUT/tail.onnx; return both paths.

    Raises:
        InputError: If the folder cannot be written.
    """
    # Tensor names may hold anything; a folder keeps the harmless characters.
    target = folder / re.sub(r"[^A-Za-z0-9._-]+", "_", "+".join(halves.frontier)).strip(".")
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, half in (("head.onnx", halves.head), ("tail.onnx", halves.tail)):
            (target / name).write_bytes(half.SerializeToString())
    except OSError as error:
        raise InputError(f"{target}: {error.strerror or error}; choose another folder") from None
    return target / "head.onnx", target / "tail.onnx"


def _plain(half: ModelProto) -> ModelProto:
    """Strip what exporters leave behind: paths, stack traces and notes say nothing about the network."""
    del half.metadata_props[:]
    half.doc_string = ""
    half.producer_name, half.producer_version = "isthmus", ""
    graph = half.graph
    values: tuple[Any, ...] = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (graph, *graph.node, *values):
        part.doc_string = ""
        del part.metadata_props[:]
    return half


def _random_feeds(network: Network, seed: int) -> list[Feed]:
    rng = np.random.default_rng(seed)
    inputs = [network.shapes.fact(value.name) for value in network.proto.graph.input]
    feeds = [random_feed(inputs, rng) for _ in range(2)]
    if network.dynamic_batch:
        feeds.append(random_feed(inputs, rng, batch=3))
    return feeds


def _refuse_constant(answers: Sequence[Feed], name: str) -> None:
    first, second = answers[:2]
    for output in first:
        one, other = first[output], second[output]
        if one.shape != other.shape or not np.array_equal(one, other):
            return
    raise GateError(
        f"{name}: its outputs are the same for different inputs, so parity would prove nothing; "
        "give it trained or randomised weights"
    )


def _difference(expected: NDArray[Any], found: NDArray[Any], where: str) -> tuple[float, float]:
    """Return the largest absolute difference, and the same relative to the largest expected value."""
    if expected.shape != found.shape:
        raise GateError(f"{where} has shape {found.shape} from the halves, {expected.shape} from the whole")
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
