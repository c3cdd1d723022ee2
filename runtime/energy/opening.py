"""Which meter a text names, and which sensors this machine has.

`auto` takes what measures the device or its processor, in the order of how much of it they see. It never
opens a model, because modelled joules are for those who ask for them, nor NVML, which sees the GPU alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.runtime.energy.command import CommandMeter
from isthmus.runtime.energy.counting import Clock
from isthmus.runtime.energy.jetson import open_jetson
from isthmus.runtime.energy.meter import EnergyMeter
from isthmus.runtime.energy.model import ModelMeter
from isthmus.runtime.energy.mqtt import MqttMeter
from isthmus.runtime.energy.nvml import open_nvml
from isthmus.runtime.energy.rapl import open_rapl
from isthmus.runtime.energy.raspberry_pi import open_raspberry_pi
from isthmus.runtime.energy.replay import ReplayMeter
from isthmus.runtime.energy.serial_line import SerialMeter
from isthmus.runtime.energy.together import Together
from isthmus.runtime.errors import InputError, IsthmusError

METERS = (
    "auto, none, jetson, rpi5, rapl, nvml[:GPU], rapl+nvml, command:CMD, mqtt://HOST/TOPIC, serial:DEVICE, "
    "model:PROFILE or replay:FILE"
)


@dataclass(frozen=True, slots=True)
class Sensor:
    """A kind of sensor that a machine may have.

    Attributes:
        name: What `open_meter` calls it.
        covers: What its joules are those of.
        open: Returns a meter; None where the machine has no such sensor.
    """

    name: str
    covers: str
    open: Callable[[Path, Clock], EnergyMeter | None]


def _nvml(root: Path, clock: Clock) -> EnergyMeter | None:
    return open_nvml(clock) if (root / "proc/driver/nvidia/version").exists() else None


# In the order in which `auto` looks for them.
AUTOMATIC: tuple[Sensor, ...] = (
    Sensor("jetson", "the whole module", open_jetson),
    Sensor("rpi5", "the whole board, by a fit to its rails", open_raspberry_pi),
    Sensor("rapl", "processors and their memory, not the whole machine", open_rapl),
)
SENSORS = (*AUTOMATIC, Sensor("nvml", "the GPU alone", _nvml))
_BY_NAME = {sensor.name: sensor for sensor in SENSORS}
_NVML = re.compile(r"nvml(?::([0-9]{1,3}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A sensor that this machine has.

    Attributes:
        sensor: Which.
        source: What its meter calls itself; None where it cannot be read.
        trouble: Why it cannot be read, with the remedy; None where it can.
    """

    sensor: Sensor
    source: str | None = None
    trouble: str | None = None


def find_sensors(root: Path = Path("/"), *, clock: Clock = time.monotonic) -> list[Found]:
    """Return the sensors of this machine, readable or not, those that `auto` prefers first."""
    found = []
    for sensor in SENSORS:
        try:
            meter = sensor.open(root, clock)
        except IsthmusError as error:
            found.append(Found(sensor=sensor, trouble=str(error)))
            continue
        if meter is not None:
            found.append(Found(sensor=sensor, source=meter.source))
            meter.close()
    return found


def open_meter(spec: str, *, root: Path = Path("/"), clock: Clock = time.monotonic) -> EnergyMeter | None:
    """Return the meter that `spec` names; None for `none`, and for `auto` where no sensor can be read.

    Args:
        spec: One of `METERS`. Sensors of parts that do not overlap may be added up with `+`.
        root: Where this machine's `proc` and `sys` are mounted; another for tests.
        clock: Monotonic seconds.

    Raises:
        InputError: If there is no such meter, or the one that was asked for is not there or cannot be read.
        ArtifactError: If a model's profile cannot be read.
        MissingExtraError: If it needs a library that is not installed.
    """
    name, _, rest = spec.partition(":")
    if spec == "none":
        return None
    if spec == "auto":
        return _first_readable(AUTOMATIC, root, clock)
    if name == "command":
        return CommandMeter(rest, clock=clock)
    if name == "mqtt":
        return MqttMeter(spec, clock=clock)
    if name == "serial" and rest:
        return SerialMeter(rest, clock=clock)
    if name == "model" and rest:
        return ModelMeter(rest, root=root, clock=clock)
    if name == "replay" and rest:
        return ReplayMeter(Path(rest).expanduser(), clock=clock)
    names = spec.split("+")
    # What is measured is never added to what is modelled, so a model is no part of a sum.
    if not all(_NVML.fullmatch(name) or name in _BY_NAME for name in names):
        raise InputError(f"energy meter {spec!r} is not known; give {METERS}")
    parts = [_part(name, root, clock) for name in names]
    return parts[0] if len(parts) == 1 else Together(parts)


def _first_readable(sensors: Sequence[Sensor], root: Path, clock: Clock) -> EnergyMeter | None:
    for sensor in sensors:
        try:
            meter = sensor.open(root, clock)
        except IsthmusError:
            continue  # `find_sensors` tells why
        if meter is not None:
            return meter
    return None


def _part(name: str, root: Path, clock: Clock) -> EnergyMeter:
    gpu = _NVML.fullmatch(name)
    if gpu is not None:
        return open_nvml(clock, index=int(gpu[1] or 0))
    meter = _BY_NAME[name].open(root, clock)
    if meter is None:
        raise InputError(
            f"energy meter {name!r}: this machine has no such sensor; see 'isthmus agent doctor'"
        )
    return meter
