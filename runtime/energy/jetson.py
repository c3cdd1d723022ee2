"""Jetson modules: INA3221 (older kernels: iio, newer: hwmon) and INA238 power monitors.

A rail that names the module's input is the total; adding others to it would count them twice. Modules without
such a rail are the sum of theirs. Layouts: NVIDIA Jetson Linux Developer Guide, "Power and performance"
(releases 32 to 38); Linux kernel documentation, "ina3221" and "ina238".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isthmus.runtime.energy.counting import Clock, PowerMeter
from isthmus.runtime.energy.sysfs import read_label, read_number
from isthmus.runtime.errors import InputError

INA3221 = "jetson-ina3221"
INA238 = "jetson-ina238"

_TOTALS = ("VDD_IN", "POM_5V_IN", "VIN")
_LABEL = re.compile(r"in(\d+)_label")
_RAIL = re.compile(r"rail_name_(\d+)")
# Not connected; and the sum of the shunts' voltages, which is no rail.
_NO_RAIL = ("", "NC")
_SHUNT_SUM = 7
_REMEDY = "see whether its driver is bound ('ls /sys/bus/i2c/drivers')"


@dataclass(frozen=True, slots=True)
class _Rail:
    name: str
    read_w: Callable[[], float]


def open_jetson(root: Path, clock: Clock) -> PowerMeter | None:
    """Return a meter of the module's input power; None where no such monitor is there.

    Raises:
        InputError: If a monitor cannot be read.
    """
    drivers = root / "sys/bus/i2c/drivers"
    for source, rails in (
        (INA238, _ina238_rails(drivers)),
        (INA3221, [*_hwmon_rails(drivers), *_iio_rails(drivers)]),
    ):
        counted = _counted(rails)
        if counted:
            return PowerMeter(source, functools.partial(_sum_w, counted), clock=clock)
    return None


def _sum_w(rails: list[_Rail]) -> float:
    return sum(rail.read_w() for rail in rails)


def _counted(rails: list[_Rail]) -> list[_Rail]:
    totals = [rail for rail in rails if rail.name in _TOTALS]
    return totals[:1] or rails


def _hwmon_rails(drivers: Path) -> list[_Rail]:
    """Return the rails below the mainline driver: millivolts times milliamperes."""
    rails = []
    for label in sorted(drivers.glob("ina3221/*/hwmon/hwmon*/in*_label")):
        match, name = _LABEL.fullmatch(label.name), read_label(label) or ""
        if match is None or int(match[1]) == _SHUNT_SUM or name in _NO_RAIL:
            continue
        volts, amperes = label.with_name(f"in{match[1]}_input"), label.with_name(f"curr{match[1]}_input")
        if amperes.exists():
            rails.append(_Rail(name, _product(volts, amperes)))
    return rails


def _product(volts: Path, amperes: Path) -> Callable[[], float]:
    def read_w() -> float:
        millivolts = read_number(volts, source=INA3221, remedy=_REMEDY)
        milliamperes = read_number(amperes, source=INA3221, remedy=_REMEDY)
        return _no_less_than_0(millivolts * milliamperes / 1e6)

    return read_w


def _iio_rails(drivers: Path) -> list[_Rail]:
    """Return the rails below NVIDIA's older driver: milliwatts."""
    rails = []
    for label in sorted(drivers.glob("ina3221x/*/iio:device*/rail_name_*")):
        match, name = _RAIL.fullmatch(label.name), read_label(label) or ""
        if match is not None and name not in _NO_RAIL:
            power = label.with_name(f"in_power{match[1]}_input")
            rails.append(_Rail(name, _scaled(power, 1e3, INA3221)))
    return rails


def _ina238_rails(drivers: Path) -> list[_Rail]:
    """Return the rails of INA238s: microwatts, one rail each."""
    return [
        _Rail(read_label(power.with_name("label")) or power.parent.name, _scaled(power, 1e6, INA238))
        for power in sorted(drivers.glob("ina238/*/hwmon/hwmon*/power1_input"))
    ]


def _scaled(file: Path, per_w: float, source: str) -> Callable[[], float]:
    return lambda: _no_less_than_0(read_number(file, source=source, remedy=_REMEDY) / per_w)


def _no_less_than_0(power_w: float) -> float:
    # At rest the shunt's offset may show a few milliwatts below 0; what is far below is a wrong reading.
    if power_w < -1.0:
        raise InputError(f"the Jetson's power monitor reads {power_w:.1f} W, below 0; {_REMEDY}")
    return max(0.0, power_w)
