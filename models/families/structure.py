"""Read a family's own settings, plain values by name, into its dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from isthmus.runtime.errors import PlanError

_Structure = TypeVar("_Structure")


def read_structure(kind: type[_Structure], values: Mapping[str, Any], family: str) -> _Structure:
    """Return the dataclass `kind` filled from `values`; what is left out keeps its default.

    Raises:
        PlanError: If a name is unknown, or a value is not of its field's type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in fields:
            known = ", ".join(fields) or "nothing"
            raise PlanError(f"bottleneck {family!r} has no setting {name!r}; it has {known}")
        wanted = type(fields[name].default)
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise PlanError(f"bottleneck {family!r}: {name} = {value!r} is no {wanted.__name__}")
    return kind(**values)
