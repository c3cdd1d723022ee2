"""Several meters of parts that do not overlap, as one."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.runtime.energy.meter import EnergyMeter
from isthmus.runtime.errors import InputError


class Together:
    """The sum of measured meters; unknown as soon as one of them is.

    Raises:
        InputError: If a part is named twice.
    """

    measured = True

    def __init__(self, parts: Sequence[EnergyMeter]) -> None:
        names = [part.source for part in parts]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"energy meter {twice!r} is named twice; name each part once")
        self.source = "+".join(names)
        self._parts = parts

    @property
    def trouble(self) -> str | None:
        """See `EnergyMeter`."""
        return next((part.trouble for part in self._parts if part.trouble is not None), None)

    def read_j(self) -> float | None:
        """See `EnergyMeter`."""
        # All are read, whatever one says: a meter that is not read does not count.
        joules = [part.read_j() for part in self._parts]
        return None if None in joules else sum(energy_j for energy_j in joules if energy_j is not None)

    def close(self) -> None:
        """See `EnergyMeter`."""
        for part in self._parts:
            part.close()
