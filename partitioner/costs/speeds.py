"""How fast a machine does each class of operators, fitted to the nodes that were measured on it.

Pure: times and work in, speeds out. With them a profile of one network gives an estimate for another. The
model is overhead + flops / rate + bytes / rate, as `OperatorSpeed` computes it; caches and fusion are in it
only as far as the measured nodes had them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.machines import NetworkCosts, Operator, OperatorSpeed

_NODE, _FLOP, _BYTE = 0, 1, 2
_RIDGE = 4
# Fewer nodes than this cannot tell an overhead from a rate.
_MANY = 4
_PRODUCTS = ("conv", "matmul")
_CLEARLY = 0.98
_NOTHING = 1e-6
_OPERATORS: tuple[Operator, ...] = get_args(Operator)


def fit_speeds(networks: Iterable[NetworkCosts]) -> tuple[OperatorSpeed, ...]:
    """Return the speed of every class of operators that occurs in `networks`, measured on one machine.

    Nodes without operations and bytes are no kernels and do not enter. A rate or an overhead that is not
    needed to explain the nodes of a class stays None or 0. A class of very few nodes takes the overhead of
    the others, and one whose few products were limited by memory takes the arithmetic of the other products.

    Args:
        networks: With `work`; those without it do not enter.
    """
    samples: dict[Operator, list[tuple[float, float, float]]] = {}
    models: dict[Operator, dict[str, None]] = {}
    for costs in networks:
        for key, work in costs.work.items():
            if work.flops or work.nbytes:
                samples.setdefault(work.operator, []).append((work.flops, work.nbytes, costs.node_s[key]))
                models.setdefault(work.operator, {})[costs.model or "a network"] = None
    classes = [operator for operator in _OPERATORS if operator in samples]
    many = [operator for operator in classes if len(samples[operator]) >= _MANY]
    tables = {operator: np.array(samples[operator], np.float64) for operator in classes}
    terms = {operator: _terms(tables[operator], None) for operator in many}
    overhead_s = float(np.median([terms[operator][_NODE] for operator in many])) if many else 0.0
    terms |= {operator: _terms(tables[operator], overhead_s) for operator in classes if operator not in many}
    speeds = [_speed(operator, tables[operator], terms[operator], models[operator]) for operator in classes]
    return tuple(_with_arithmetic(speed, speeds) for speed in speeds)


def _terms(samples: NDArray[np.float64], overhead_s: float | None) -> NDArray[np.float64]:
    """Return seconds of a node, an operation and a byte from rows of flops, bytes and seconds.

    Args:
        samples: The rows.
        overhead_s: What a node takes at most where there are too few to tell, or None to find it.
    """
    seconds = samples[:, 2]
    total = float(seconds.sum())
    if total == 0:
        return np.zeros(3)
    fixed_s = 0.0 if overhead_s is None else min(overhead_s, float(seconds.min()))
    work = _work(samples)
    if total - fixed_s * len(seconds) <= _NOTHING * total:
        return np.array([total / len(seconds), 0.0, 0.0])
    if overhead_s is not None:
        work[:, _NODE] = 0.0
    # Relative errors, but of nodes that fusion leaves next to no time not infinitely so.
    weights = 1 / (seconds + seconds.mean())
    terms = _least_squares(work * weights[:, None], (seconds - fixed_s) * weights)
    terms[_NODE] += fixed_s
    # The sum is what a prediction for a whole network is made of, so it is kept exactly.
    return np.asarray(terms * total / float((_work(samples) @ terms).sum()))


def _work(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([np.ones(len(samples)), samples[:, :2]])


def _speed(
    operator: Operator,
    samples: NDArray[np.float64],
    terms: NDArray[np.float64],
    models: Mapping[str, None],
) -> OperatorSpeed:
    seconds = samples[:, 2]
    total = float(seconds.sum())
    error = float(np.abs(_work(samples) @ terms - seconds).sum()) / total if total else 0.0
    nodes = f"{len(samples)} node{'s' * (len(samples) > 1)}"
    return OperatorSpeed(
        operator=operator,
        flops_per_s=_rate(terms[_FLOP]),
        bytes_per_s=_rate(terms[_BYTE]),
        overhead_s=float(terms[_NODE]),
        source="measured",
        origin=f"fitted to {nodes} of {', '.join(models)}; sum of absolute errors {error:.0%} of their time",
    )


def _with_arithmetic(speed: OperatorSpeed, speeds: Sequence[OperatorSpeed]) -> OperatorSpeed:
    """Return `speed`; of products that showed none, with the arithmetic of the other products.

    A vector times a matrix, all a classifier has, waits for its weights; a transformer's products do not.
    """
    if speed.operator not in _PRODUCTS or speed.flops_per_s is not None:
        return speed
    for other in speeds:
        if other.operator in _PRODUCTS and other.flops_per_s is not None:
            origin = f"{speed.origin}; arithmetic as of {other.operator!r}"
            return msgspec.structs.replace(speed, flops_per_s=other.flops_per_s, origin=origin)
    return speed


def _least_squares(work: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the non-negative terms (of a node, an operation, a byte) that come closest to `target`.

    Tries every set of terms above 0: the optimum is the ordinary solution on the set where it is above 0. A
    larger set has to explain clearly more than a smaller one. Of single terms that explain nodes equally
    well, many operations per byte speak for operations and few for bytes: a processor's roofline has its
    ridge at a few (Williams et al., CACM 52(4), 2009).
    """
    scale = np.maximum(work.max(axis=0), np.finfo(np.float64).tiny)
    first = (_BYTE, _FLOP) if work[:, _FLOP].sum() < _RIDGE * work[:, _BYTE].sum() else (_FLOP, _BYTE)
    best, best_error = np.zeros(work.shape[1]), math.inf
    for size in range(1, work.shape[1] + 1):
        for chosen in itertools.combinations((*first, _NODE), size):
            columns = list(chosen)
            found = np.linalg.lstsq(work[:, columns] / scale[columns], target, rcond=None)[0]
            error = float(np.square(work[:, columns] / scale[columns] @ found - target).sum())
            if (found >= 0).all() and error < best_error * _CLEARLY:
                best = np.zeros(work.shape[1])
                best[columns] = found / scale[columns]
                best_error = error
    return best


def _rate(seconds_per_unit: float) -> float | None:
    """Return units per second, or None where a unit takes no time that shows."""
    return 1 / float(seconds_per_unit) if seconds_per_unit > 0 and 1 / seconds_per_unit < math.inf else None
