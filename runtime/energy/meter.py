"""What every energy meter is, and how it says that it does not know."""

from __future__ import annotations

from typing import Protocol


class EnergyMeter(Protocol):
    """Counts a device's joules from the moment it was opened."""

    @property
    def source(self) -> str:
        """Where the joules come from: "rapl", "nvml", "jetson-ina3221", "rpi5-pmic", "command" and so on.

        It begins with "model:" if and only if the joules are modelled.
        """
        ...

    @property
    def measured(self) -> bool:
        """False only for models."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why the joules are unknown now, in one line; None while they are known."""
        ...

    def read_j(self) -> float | None:
        """Return the joules since the meter was opened, never fewer than before; None: unknown now.

        May take as long as the sensor does, so call it on a thread that no frame waits for, about ten times
        a second: meters whose sensors tell watts integrate from call to call.
        """
        ...

    def close(self) -> None:
        """Let go of the sensor."""
        ...
