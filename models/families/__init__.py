"""The kinds of bottleneck, by name."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.models.families.bottlefit import BottlefitFamily
from isthmus.models.families.ensemble import EnsembleFamily
from isthmus.models.families.entropic import EntropicFamily
from isthmus.models.families.protocol import BottleneckFamily, Layout
from isthmus.models.families.pruned import PrunedFamily
from isthmus.models.families.slim import SlimFamily
from isthmus.models.families.tokens import TokenFamily
from isthmus.runtime.errors import PlanError

__all__ = ["FAMILIES", "BottleneckFamily", "Layout", "family_named"]

_ALL: tuple[BottleneckFamily, ...] = (
    SlimFamily(),
    PrunedFamily(),
    BottlefitFamily(),
    EntropicFamily(),
    EnsembleFamily(),
    TokenFamily(),
)
FAMILIES: Mapping[str, BottleneckFamily] = {family.name: family for family in _ALL}


def family_named(name: str) -> BottleneckFamily:
    """Return the family called `name`.

    Raises:
        PlanError: If there is none; lists those there are.
    """
    if name not in FAMILIES:
        raise PlanError(f"bottleneck {name!r}: give one of {', '.join(FAMILIES)}")
    return FAMILIES[name]
