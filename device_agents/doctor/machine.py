"""The machine itself: its clock, its speed, its temperature, its meters and its limits.

Reads files of the kernel below a root that tests can make up, and asks libc two questions.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable
from pathlib import Path

from isthmus.device_agents.doctor.finding import Finding, ok, warn
from isthmus.device_agents.operation.thermal import ThermalMonitor
from isthmus.runtime.codecs import coder_backend
from isthmus.runtime.energy.opening import AUTOMATIC, find_sensors

# Reading these costs tens of nanoseconds; others go through a port or the kernel and cost a microsecond.
_GOOD_CLOCKS = (
    "tsc",
    "kvm-clock",
    "hyperv",
    "xen",
    "arch_sys_counter",
    "arch_mmio_timer",
    "timebase",
    "riscv",
)
_TIME_ERROR = 5
_SLOW_BELOW = 0.75
_FEWEST_FILES = 256


def examine_machine(
    root: Path = Path("/"), *, clock_state: Callable[[], int | None] | None = None
) -> list[Finding]:
    """Return what there is to say of this machine.

    Args:
        root: Where `proc` and `sys` are mounted.
        clock_state: Returns what adjtimex(2) does, None where it cannot be asked.
    """
    return [
        _coder(),
        _clock_source(root),
        _clock_sync((_adjtimex if clock_state is None else clock_state)()),
        _governor(root),
        _frequency(root),
        _temperature(root),
        _energy(root),
        _open_files(),
        _load(),
    ]


def _coder() -> Finding:
    if coder_backend() == "c":
        return ok("entropy coder", "C extension")
    return warn(
        "entropy coder",
        "numpy: the same bytes, tens of times slower",
        "install a C compiler and install isthmus again",
    )


def _clock_source(root: Path) -> Finding:
    source = _text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source is None:
        return ok("clock source", "not stated by this kernel")
    if any(source.startswith(good) for good in _GOOD_CLOCKS):
        return ok("clock source", source)
    return warn(
        "clock source",
        f"{source}: reading the time is slow, and is done several times a frame",
        "see 'available_clocksource' beside it; a kernel that distrusts its tsc says why at boot",
    )


def _clock_sync(state: int | None) -> Finding:
    if state is None:
        return ok("clock sync", "cannot be asked here")
    if state == _TIME_ERROR:
        return warn(
            "clock sync",
            "the wall clock is not synchronised; deadlines do not care, but two hosts' logs will not line up",
            "enable systemd-timesyncd or chrony, and let NTP (UDP port 123) out",
        )
    return ok("clock sync", "synchronised")


def _governor(root: Path) -> Finding:
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    governor, driver = _text(frequency / "scaling_governor"), _text(frequency / "scaling_driver") or ""
    if governor is None:
        return ok("CPU governor", "not stated by this kernel (usual in virtual machines)")
    # These two drivers scale by themselves, whatever their governor is called.
    if governor != "powersave" or driver.startswith(("intel_pstate", "amd-pstate-epp")):
        return ok("CPU governor", f"{governor} ({driver})" if driver else governor)
    return warn(
        "CPU governor",
        "powersave: heads run at the lowest frequency",
        "cpupower frequency-set -g schedutil (or performance); on a Jetson: nvpmodel and jetson_clocks",
    )


def _frequency(root: Path) -> Finding:
    shares, highest = [], 0
    for folder in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")):
        limit, most = _number(folder / "scaling_max_freq"), _number(folder / "cpuinfo_max_freq")
        if limit and most:
            shares.append(limit / most)
            highest = max(highest, most)
    if not shares:
        return ok("CPU frequency", "not stated by this kernel")
    if min(shares) < _SLOW_BELOW:
        return warn(
            "CPU frequency",
            f"limited to {min(shares):.0%} of {highest / 1e6:.2f} GHz",
            "lift scaling_max_freq, choose another power mode (nvpmodel -q on a Jetson), or cool the device",
        )
    return ok("CPU frequency", f"up to {highest / 1e6:.2f} GHz")


def _temperature(root: Path) -> Finding:
    reading = ThermalMonitor(root).read()
    degrees = "" if reading.temperature_c is None else f"{reading.temperature_c:.0f} °C"
    if reading.throttled:
        return warn(
            "temperature",
            f"slowed down now: {', '.join(reading.causes)}",
            "cool it; for under-voltage give it a stronger power supply and a shorter cable",
        )
    if reading.since_boot:
        return warn(
            "temperature",
            f"{degrees}; since it started: {', '.join(reading.since_boot)}".removeprefix("; "),
            "expect it again under load: cool it, or give it a stronger power supply",
        )
    if reading.source == "none":
        return ok("temperature", "no sensor that this user can read")
    return ok("temperature", f"{degrees or 'no reading'}, at full speed ({reading.source})")


def _energy(root: Path) -> Finding:
    found = find_sensors(root)
    usable = [f"{one.source}: {one.sensor.covers}" for one in found if one.trouble is None]
    refused = [one.trouble for one in found if one.trouble is not None]
    automatic = any(one.trouble is None and one.sensor in AUTOMATIC for one in found)
    if automatic:
        return ok("energy sensor", "; ".join([*usable, *refused]))
    if refused:
        text, _, remedy = refused[0].rpartition("; ")
        return warn("energy sensor", "; ".join([text, *usable, *refused[1:]]), remedy)
    if usable:
        return warn("energy sensor", "; ".join(usable), "say --energy nvml if that is what is to be measured")
    return warn(
        "energy sensor",
        "none: joules can only be modelled (--energy model:PROFILE)",
        "put a meter in the supply where energy is to be measured (--energy command:, mqtt: or serial:)",
    )


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FEWEST_FILES:
        return warn("open files", f"at most {soft}", "ulimit -n 1024, or LimitNOFILE=1024 in the unit")
    return ok("open files", "no limit" if soft == resource.RLIM_INFINITY else f"at most {soft}")


def _load() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    if load > 0.7 * cores:
        return warn(
            "load",
            f"{load:.1f} on {cores} cores before the agent has begun",
            "stop what else computes on this device",
        )
    return ok("load", f"{load:.1f} on {cores} cores")


def _adjtimex() -> int | None:
    try:
        # Larger than any kernel's struct timex; all zeros asks and sets nothing.
        return int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(1024)))
    except (AttributeError, OSError):
        return None


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text is not None and text.isdecimal() else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
