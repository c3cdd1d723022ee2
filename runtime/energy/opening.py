"""Which meter a text names, and which of them this machine has."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from isthmus.runtime.energy.meter import EnergyMeter
from isthmus.runtime.energy.replay import ReplayMeter
from isthmus.runtime.errors import InputError

METERS = "auto, none or replay:FILE"


def open_meter(
    spec: str, *, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic
) -> EnergyMeter | None:
    """Return the meter that `spec` names; None for `none`, and for `auto` where no sensor can be read.

    `auto` never opens a model: modelled joules are for those who ask for them.

    Args:
        spec: `auto`, `none`, or a meter's name with what it needs.
        root: Where this machine's file system is; another for tests.
        clock: Monotonic seconds.

    Raises:
        InputError: If there is no such meter, or the one that was asked for cannot be read.
        MissingExtraError: If it needs a library that is not installed.
    """
    name, _, rest = spec.partition(":")
    if spec in ("none", "auto"):
        return None
    if name == "replay" and rest:
        return ReplayMeter(Path(rest).expanduser(), clock=clock)
    raise InputError(f"energy meter {spec!r} is not known; give {METERS}")
