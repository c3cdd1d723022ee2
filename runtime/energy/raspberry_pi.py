"""Raspberry Pi 5: `vcgencmd pmic_read_adc` shows the rails behind its power management chip.

Older boards have no such sensor. What the chip itself and USB ports draw is not on its rails, so the board's
watts are fitted: watts = 1.1451 × the sum of rails + 0.5879 (a published fit against a meter in the supply;
without what hangs on the USB ports).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from isthmus.runtime.energy.commands import run_command
from isthmus.runtime.energy.counting import Clock, PowerMeter
from isthmus.runtime.energy.sysfs import read_label
from isthmus.runtime.errors import InputError

SOURCE = "rpi5-pmic"

_BOARDS = ("Raspberry Pi 5", "Raspberry Pi Compute Module 5")
_COMMAND = ("vcgencmd", "pmic_read_adc")
_BOARD_PER_RAIL = 1.1451
_BOARD_W = 0.5879
_LINE = re.compile(r"\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)([AV])\s*")
_REMEDY = "add its user to the group 'video', or install raspi-utils"


def open_raspberry_pi(
    root: Path, clock: Clock, *, run: Callable[..., str] = run_command
) -> PowerMeter | None:
    """Return a meter of this Raspberry Pi 5; None on any other machine.

    Args:
        root: Where `proc` is mounted.
        clock: Monotonic seconds.
        run: Runs a command and returns what it prints.

    Raises:
        InputError: If the chip cannot be asked.
    """
    board = read_label(root / "proc/device-tree/model") or ""
    if not board.startswith(_BOARDS):
        return None
    return PowerMeter(SOURCE, lambda: board_w(run(_COMMAND, source=SOURCE, remedy=_REMEDY)), clock=clock)


def board_w(text: str) -> float:
    """Return the board's watts out of what `vcgencmd pmic_read_adc` prints.

    Only rails with volts and amperes count: EXT5V and BATT have no current.

    Raises:
        InputError: If there is no such rail in it.
    """
    amperes: dict[str, float] = {}
    volts: dict[str, float] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is not None and match[2] == match[4]:
            (amperes if match[2] == "A" else volts)[match[1]] = float(match[3])
    rails = amperes.keys() & volts.keys()
    if not rails:
        said = " ".join(text.split())[:60]
        raise InputError(f"{SOURCE}: {' '.join(_COMMAND)} said {said!r}, no rails; {_REMEDY}")
    return _BOARD_PER_RAIL * sum(amperes[rail] * volts[rail] for rail in rails) + _BOARD_W
