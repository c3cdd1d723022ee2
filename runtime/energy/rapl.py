"""RAPL: joules of x86 processor packages, and of their memory where it is counted apart.

`cores` and `uncore` are parts of their package and `psys` (the whole platform) contains packages, so none of
them is added. Linux kernel documentation, "Power Capping Framework": `energy_uj` counts microjoules up to
`max_energy_range_uj`, then begins at 0. Since Linux 5.10 only root may read it (CVE-2020-8694).
"""

from __future__ import annotations

import re
from pathlib import Path

from isthmus.runtime.energy.counting import Clock, Counter, CounterMeter
from isthmus.runtime.energy.sysfs import read_label, read_number

SOURCE = "rapl"
_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")
_REMEDY = "only root may read it: run as root, or let a udev rule give its group the right to read"


def open_rapl(root: Path, clock: Clock) -> CounterMeter | None:
    """Return a meter of all packages of this machine with their memory; None where there is no RAPL.

    Raises:
        InputError: If its counters cannot be read.
    """
    zones = sorted(zone for zone in (root / "sys/class/powercap").glob("intel-rapl:*") if _counts_apart(zone))
    if not zones:
        return None
    return CounterMeter(SOURCE, [_counter(zone) for zone in zones], clock=clock)


def _counts_apart(zone: Path) -> bool:
    match = _ZONE.fullmatch(zone.name)
    if match is None:
        return False
    name = read_label(zone / "name") or ""
    return name == "dram" if match[1] else name.startswith("package")


def _counter(zone: Path) -> Counter:
    def read_j() -> float:
        return read_number(zone / "energy_uj", source=SOURCE, remedy=_REMEDY) / 1e6

    range_uj = read_number(zone / "max_energy_range_uj", source=SOURCE, remedy=_REMEDY)
    return Counter(f"{zone.name} ({read_label(zone / 'name')})", read_j, range_j=range_uj / 1e6)
