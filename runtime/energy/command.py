"""An external meter that a command reads: `command:CMD`, run once per reading without a shell."""

from __future__ import annotations

import shlex

from isthmus.runtime.energy.commands import run_command
from isthmus.runtime.energy.counting import Clock
from isthmus.runtime.energy.external import ExternalMeter, ReadingSum
from isthmus.runtime.errors import InputError

SOURCE = "command"
_REMEDY = "try it in a shell: it is to print one number, as 3.42 W"


class CommandMeter(ExternalMeter):
    """Runs a command that prints watts now (`3.42 W`) or joules counted so far (`812 J`, `0.52 kWh`).

    Args:
        command: As in a shell, but there is none: no pipes, no variables.
        clock: Monotonic seconds.

    Raises:
        InputError: If it cannot be run, or prints no such number.
    """

    source = SOURCE

    def __init__(self, command: str, *, clock: Clock) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise InputError(f"{SOURCE}: {command!r}: {error}; mend its quotes") from None
        if not self._command:
            raise InputError(f"{SOURCE}: no command; give one, as command:read-meter")
        self._sum = ReadingSum(SOURCE, "", clock=clock)
        self.read_j()
        if self._sum.trouble is not None:
            raise InputError(self._sum.trouble)

    def read_j(self) -> float | None:
        """See `EnergyMeter`."""
        try:
            self._sum.take(run_command(self._command, source=SOURCE, remedy=_REMEDY))
        except InputError as error:
            self._sum.fail(str(error))
        return super().read_j()

    def close(self) -> None:
        """See `EnergyMeter`."""
