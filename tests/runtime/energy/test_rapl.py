"""RAPL's counters: what is added up, how they wrap, and what happens when they cannot be read."""

import os

import pytest

from isthmus.runtime.energy import find_sensors, open_meter
from isthmus.runtime.errors import InputError

POWERCAP = "sys/class/powercap"
RANGE_UJ = 262_143_328_850  # of a Skylake server's package: 2^32 - 1 counts of 61 µJ


def zone(name, label, energy_uj, range_uj=RANGE_UJ):
    folder = f"{POWERCAP}/{name}"
    return {
        f"{folder}/name": label,
        f"{folder}/energy_uj": energy_uj,
        f"{folder}/max_energy_range_uj": range_uj,
    }


@pytest.fixture
def server(tree):
    """Two packages; one with cores, uncore and memory; the platform; the package again by MMIO."""
    tree.put(zone("intel-rapl:0", "package-0", 5_000_000))
    tree.put(zone("intel-rapl:0:0", "core", 1_000_000))
    tree.put(zone("intel-rapl:0:1", "uncore", 1_000_000))
    tree.put(zone("intel-rapl:0:2", "dram", 700_000, range_uj=65_712_999_613))
    tree.put(zone("intel-rapl:1", "package-1", 9_000_000))
    tree.put(zone("intel-rapl:2", "psys", 100_000_000))
    tree.put(zone("intel-rapl-mmio:0", "package-0", 5_000_000))
    return tree


def test_packages_and_memory_are_added_and_nothing_is_counted_twice(server, clock):
    meter = open_meter("auto", root=server.root, clock=clock)
    assert (meter.source, meter.measured, meter.read_j()) == ("rapl", True, 0.0)
    clock.pass_s(1.0)
    server.put({f"{POWERCAP}/intel-rapl:0/energy_uj": 25_000_000})  # 20 J
    server.put({f"{POWERCAP}/intel-rapl:0:0/energy_uj": 15_000_000})  # in the package
    server.put({f"{POWERCAP}/intel-rapl:0:2/energy_uj": 2_200_000})  # 1.5 J
    server.put({f"{POWERCAP}/intel-rapl:1/energy_uj": 12_000_000})  # 3 J
    server.put({f"{POWERCAP}/intel-rapl:2/energy_uj": 160_000_000})  # contains the packages
    assert meter.read_j() == pytest.approx(24.5)
    assert meter.trouble is None


def test_a_counter_that_wraps_goes_on(server, clock):
    server.put({f"{POWERCAP}/intel-rapl:0/energy_uj": RANGE_UJ - 4_000_000})
    meter = open_meter("rapl", root=server.root, clock=clock)
    clock.pass_s(0.1)
    server.put({f"{POWERCAP}/intel-rapl:0/energy_uj": 3_000_000})
    assert meter.read_j() == pytest.approx(7.0)  # 4 J to the range, 3 J beyond it
    clock.pass_s(0.1)
    server.put({f"{POWERCAP}/intel-rapl:0/energy_uj": 5_000_000})
    assert meter.read_j() == pytest.approx(9.0)


def test_a_counter_that_may_have_wrapped_unseen_is_unknown(server, clock):
    meter = open_meter("rapl", root=server.root, clock=clock)
    clock.pass_s(120.0)  # the memory's range of 65.7 kJ lasts 44 s at the most a package can draw
    assert meter.read_j() is None
    assert "intel-rapl:0:2 (dram): not read for 120 s" in meter.trouble
    clock.pass_s(0.1)
    assert meter.read_j() is None


def test_a_counter_that_was_set_back_is_no_wrap(server, clock):
    meter = open_meter("rapl", root=server.root, clock=clock)
    clock.pass_s(0.1)
    server.put({f"{POWERCAP}/intel-rapl:0/energy_uj": 0})
    assert meter.read_j() is None
    assert "set back" in meter.trouble


def test_a_counter_that_vanishes_for_a_moment_loses_no_joules(server, clock):
    meter = open_meter("rapl", root=server.root, clock=clock)
    clock.pass_s(0.1)
    server.remove(f"{POWERCAP}/intel-rapl:1/energy_uj")
    assert meter.read_j() is None
    assert meter.trouble.endswith("udev rule give its group the right to read")
    assert "intel-rapl:1/energy_uj: No such file" in meter.trouble
    clock.pass_s(0.1)
    server.put({f"{POWERCAP}/intel-rapl:1/energy_uj": 11_500_000})
    assert meter.read_j() == pytest.approx(2.5)
    assert meter.trouble is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_real_refusal_of_permission(server):
    (server.root / f"{POWERCAP}/intel-rapl:0/energy_uj").chmod(0)
    with pytest.raises(InputError, match="Permission denied; only root may read it"):
        open_meter("rapl", root=server.root)


def test_permission_refused_is_one_clear_line(server, monkeypatch):
    # As root every file can be read, so the kernel's refusal is played.
    from pathlib import Path

    read_text = Path.read_text

    def refuse(self, *args, **options):
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(self, *args, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(InputError) as caught:
        open_meter("rapl", root=server.root)
    assert str(caught.value) == (
        f"rapl: {server.root}/{POWERCAP}/intel-rapl:0/energy_uj: Permission denied; only root may read it: "
        "run as root, or let a udev rule give its group the right to read"
    )
    assert open_meter("auto", root=server.root) is None
    (found,) = find_sensors(server.root)
    assert (found.source, found.sensor.name) == (None, "rapl")
    assert found.trouble == str(caught.value)


def test_a_counter_that_holds_no_number_is_named(server):
    server.put({f"{POWERCAP}/intel-rapl:0/energy_uj": "lots"})
    with pytest.raises(InputError, match="energy_uj holds 'lots', no number"):
        open_meter("rapl", root=server.root)


def test_a_machine_without_rapl(tree):
    assert open_meter("auto", root=tree.root) is None
    with pytest.raises(InputError, match="'rapl': this machine has no such sensor"):
        open_meter("rapl", root=tree.root)
