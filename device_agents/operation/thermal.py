"""Is this device too hot or too weakly powered for full speed? What kernel and firmware say of it.

Three families of evidence, whichever the device has: the kernel's thermal zones and cooling devices (every
Linux board; on a Jetson also its over-current counters), the Raspberry Pi's firmware (`get_throttled`), and
the processor's own throttle counters (x86). What cannot be known is None, never a guess; nothing here needs
root. Refuses to know what is done about it.

Bits of `get_throttled`: Raspberry Pi documentation, "vcgencmd". Over-current counters: NVIDIA Jetson Linux
Developer Guide, "Jetson Orin power and performance".
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_FIRMWARE_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_FIRMWARE_BITS = (
    (0, "under-voltage"),
    (1, "frequency capped"),
    (2, "throttled by the firmware"),
    (3, "soft temperature limit"),
)
_SINCE_BOOT_SHIFT = 16
# A zone of one of these names measures what computes; the others are batteries, radios and boards.
_COMPUTING = ("cpu", "soc", "gpu", "tj", "x86_pkg", "cluster", "core")
# The kernel slows the processor at a `passive` trip; `hot` and `critical` come after it.
_LIMITING_TRIP = "passive"
_SLOWING = ("cpufreq", "devfreq", "Processor", "intel_powerclamp")
# Sensors that are not there read far outside of this.
_PLAUSIBLE_C = (-40.0, 150.0)
_FIRMWARE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalReading:
    """What the device says of its temperature and speed at one instant.

    Attributes:
        temperature_c: The hottest computing part, degrees Celsius; None without a sensor.
        limit_c: Where the kernel begins to slow that part down; None if it does not say.
        throttled: Whether the device runs slower than it could; None if nothing here can tell.
        causes: Why, in words; empty unless throttled.
        since_boot: What happened at some time since the device started, in words.
        source: Where the readings came from, e.g. `"sysfs"`, `"sysfs+firmware"`; `"none"` without any.
    """

    temperature_c: float | None = None
    limit_c: float | None = None
    throttled: bool | None = None
    causes: tuple[str, ...] = ()
    since_boot: tuple[str, ...] = ()
    source: str = "none"


class ThermalMonitor:
    """Reads the same sensors again and again; a reading costs a few small files, on an older Pi one process.

    Args:
        root: Where `sys` is mounted.
        firmware: Returns what `vcgencmd get_throttled` prints, or None; the default runs it where it exists.
    """

    def __init__(self, root: Path = Path("/"), *, firmware: Callable[[], str | None] | None = None) -> None:
        thermal = root / "sys/class/thermal"
        self._zones = [
            zone for zone in sorted(thermal.glob("thermal_zone*")) if _computes(_text(zone / "type"))
        ]
        self._coolers = [
            cooler
            for cooler in sorted(thermal.glob("cooling_device*"))
            if any(word in (_text(cooler / "type") or "") for word in _SLOWING)
        ]
        cpus = root / "sys/devices/system/cpu"
        self._counters = sorted(cpus.glob("cpu*/thermal_throttle/package_throttle_count"))[:1] + sorted(
            (root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")
        )
        self._counts = [_number(file) for file in self._counters]
        self._firmware_file = root / _FIRMWARE_FILE
        self._ask_firmware = _run_vcgencmd if firmware is None else firmware

    def read(self) -> ThermalReading:
        """Return what the device says now; throttle counters are compared with the reading before."""
        temperature_c, limit_c = self._hottest()
        causes, since_boot, sources = [], [], []
        if temperature_c is not None or self._coolers:
            sources.append("sysfs")
        if temperature_c is not None and limit_c is not None and temperature_c >= limit_c:
            causes.append(f"{temperature_c:.0f} °C, above the limit of {limit_c:.0f} °C")
        causes += [
            f"{_text(cooler / 'type')} at step {step} of {_number(cooler / 'max_state')}"
            for cooler in self._coolers
            if (step := _number(cooler / "cur_state"))
        ]
        risen = self._risen()
        causes += [f"{name} rose by {rise}" for name, rise in risen]
        bits = self._firmware_bits()
        if bits is not None:
            sources.append("firmware")
            causes += [name for bit, name in _FIRMWARE_BITS if bits >> bit & 1]
            since_boot = [name for bit, name in _FIRMWARE_BITS if bits >> bit + _SINCE_BOOT_SHIFT & 1]
        if self._counters:
            sources.append("counters")
        can_tell = bool(causes or self._coolers or limit_c is not None or bits is not None or self._counters)
        return ThermalReading(
            temperature_c=temperature_c,
            limit_c=limit_c,
            throttled=bool(causes) if can_tell else None,
            causes=tuple(causes),
            since_boot=tuple(since_boot),
            source="+".join(sources) or "none",
        )

    def _hottest(self) -> tuple[float | None, float | None]:
        found: tuple[float | None, float | None] = (None, None)
        for zone in self._zones:
            celsius = _celsius(zone / "temp")
            if celsius is not None and (found[0] is None or celsius > found[0]):
                found = celsius, _limit_c(zone)
        return found

    def _risen(self) -> list[tuple[str, int]]:
        before, self._counts = self._counts, [_number(file) for file in self._counters]
        return [
            (file.name, now - then)
            for file, then, now in zip(self._counters, before, self._counts, strict=True)
            if then is not None and now is not None and now > then
        ]

    def _firmware_bits(self) -> int | None:
        # The file costs microseconds and needs no process; kernels of the Raspberry Pi have it.
        said = _text(self._firmware_file) or self._ask_firmware()
        if said is None:
            return None
        try:
            return int(said.strip().rpartition("=")[2], 16)
        except ValueError:
            return None


def _run_vcgencmd() -> str | None:
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, "get_throttled"], capture_output=True, text=True, timeout=_FIRMWARE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):  # not in the group `video`, or a container without it
        return None
    return done.stdout


def _computes(zone_type: str | None) -> bool:
    return zone_type is not None and any(word in zone_type.lower() for word in _COMPUTING)


def _limit_c(zone: Path) -> float | None:
    limits = [
        celsius
        for kind in zone.glob("trip_point_*_type")
        if _text(kind) == _LIMITING_TRIP
        and (celsius := _celsius(kind.with_name(kind.name.replace("_type", "_temp")))) is not None
        and celsius > 0.0  # a trip that is switched off
    ]
    return min(limits, default=None)


def _celsius(file: Path) -> float | None:
    thousandths = _number(file)
    if thousandths is None:
        return None
    low, high = _PLAUSIBLE_C
    return thousandths / 1e3 if low <= thousandths / 1e3 <= high else None


def _number(file: Path) -> int | None:
    try:
        return int(_text(file) or "")
    except ValueError:
        return None


def _text(file: Path) -> str | None:
    # Reading a sensor whose part is switched off fails (a Jetson's sleeping GPU gives EAGAIN).
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
