"""Fill in the shapes that inference leaves open, by running the network and looking.

Inference gives up on arithmetic that older exporters are fond of. A run knows every shape; two runs on
different values tell a shape that depends on the batch alone from one that depends on what is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper

from isthmus.partitioner.network.shapes import OTHER_BATCH, ShapeTable
from isthmus.partitioner.running.execution import Feed, open_session, random_feed, run, session_options
from isthmus.runtime.errors import InputError


def observe_shapes(
    model: ModelProto,
    inputs: Mapping[str, ValueInfoProto],
    table: ShapeTable,
    names: Iterable[str],
    folder: Path,
) -> ShapeTable:
    """Return `table` with the shapes of the tensors in `names` that it lacks, where a run can tell them.

    Args:
        model: The network; it is not altered.
        inputs: Its real inputs.
        table: What inference found.
        names: The tensors of interest.
        folder: Where the model's external weights are.
    """
    missing = [
        name
        for name in names
        if name not in table.kinds and (name not in table.single or name not in table.other)
    ]
    if not missing:
        return table
    probe = ModelProto()
    probe.CopyFrom(model)
    present = {value.name for value in probe.graph.output}
    probe.graph.output.extend(ValueInfoProto(name=name) for name in missing if name not in present)
    try:
        session = open_session(probe, "model", session_options(1), folder=folder)
        rng = np.random.default_rng(0)
        feed = random_feed([table.fact(name) for name in inputs], rng)
        first = run(session, feed, "model")
        zeros = run(session, {name: np.zeros_like(value) for name, value in feed.items()}, "model")
        more = random_feed([table.fact(name, batch=OTHER_BATCH) for name in inputs], rng)
        other = run(session, more, "model")
    except InputError:
        return table  # a tensor that is no array, or a network that does not run: its shapes stay unknown
    steady = [name for name in missing if _same_array(first[name], zeros[name])]
    return replace(
        table,
        types={**table.types, **{name: _element_type(first, name) for name in steady}},
        single={**table.single, **{name: first[name].shape for name in steady}},
        other={**table.other, **{name: other[name].shape for name in steady}},
    )


def _same_array(first: Any, second: Any) -> bool:
    """Say whether both are arrays (a sequence comes as a list) of one shape that are no strings."""
    return isinstance(first, np.ndarray) and first.dtype != object and first.shape == second.shape


def _element_type(values: Feed, name: str) -> int:
    return helper.np_dtype_to_tensor_dtype(values[name].dtype)
