"""How fast a machine does each class of operators, fitted to the nodes that were measured on it.

Pure: times and work in, speeds out. With them a profile of one network gives an estimate for another. The
model is overhead + flops / rate + bytes / rate, as `OperatorSpeed` computes it; caches and fusion are in it
only as far as the measured nodes had them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.machines import NetworkCosts, Operator, OperatorSpeed

_NODE, _FLOP, _BYTE = 0, 1, 2
_RIDGE = 4
_CLEARLY = 0.98
_OPERATORS: tuple[Operator, ...] = get_args(Operator)


def fit_speeds(networks: Iterable[NetworkCosts]) -> tuple[OperatorSpeed, ...]:
    """Return the speed of every class of operators that occurs in `networks`, measured on one machine.

    Nodes without operations and bytes are no kernels and do not enter. A rate or an overhead that is not
    needed to explain the nodes of a class stays None or 0.

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
    return tuple(
        _speed(operator, np.array(samples[operator], np.float64), models[operator])
        for operator in _OPERATORS
        if operator in samples
    )


def _speed(operator: Operator, samples: NDArray[np.float64], models: Mapping[str, None]) -> OperatorSpeed:
    """Return the speed of one class from rows of flops, bytes and seconds."""
    seconds = samples[:, 2]
    total = float(seconds.sum())
    if total == 0:
        terms = np.zeros(3)
    else:
        # Relative errors, but of nodes that fusion leaves next to no time not infinitely so.
        weights = 1 / (seconds + seconds.mean())
        work = np.column_stack([np.ones(len(samples)), samples[:, :2]])
        terms = _least_squares(work * weights[:, None], seconds * weights)
        # The sum is what a prediction for a whole network is made of, so it is kept exactly.
        terms *= total / float((work @ terms).sum())
    predicted = np.column_stack([np.ones(len(samples)), samples[:, :2]]) @ terms
    error = float(np.abs(predicted - seconds).sum()) / total if total else 0.0
    return OperatorSpeed(
        operator=operator,
        flops_per_s=_rate(terms[1]),
        bytes_per_s=_rate(terms[2]),
        overhead_s=float(terms[0]),
        source="measured",
        origin=(
            f"fitted to {len(samples)} nodes of {', '.join(models)}; "
            f"sum of absolute errors {error:.0%} of their time"
        ),
    )


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
