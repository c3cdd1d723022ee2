"""Read a family's own settings, plain values by name, into its dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from isthmus.models.config import SplitConfig
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


def check_latent(config: SplitConfig, plane: tuple[int, int]) -> None:
    """Refuse a config whose latent is not the `plane` that its encoder gives.

    Raises:
        PlanError: If it is not.
    """
    if plane != (config.latent_height, config.latent_width):
        raise PlanError(
            f"images of {config.input_height}x{config.input_width} give a latent of {plane[0]}x{plane[1]} "
            f"in bottleneck {config.family!r}, not one of {config.latent_height}x{config.latent_width}"
        )


def chosen(structure: Any) -> dict[str, Any]:
    """Return the values of a structure that differ from its defaults, which never change."""
    return {
        field.name: getattr(structure, field.name)
        for field in dataclasses.fields(structure)
        if getattr(structure, field.name) != field.default
    }
