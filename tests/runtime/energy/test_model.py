"""Modelled joules: watts per state of a profile over what the kernel counted."""

import pytest

from isthmus.runtime.energy import open_meter
from isthmus.runtime.errors import ArtifactError, InputError
from isthmus.runtime.machines import MachineProfile, Power, RadioModel, write_machine

RADIO = RadioModel(transmit_j_per_byte=1e-3, receive_j_per_byte=5e-4, tail_w=0.5, tail_s=0.4, source="scaled")


def profile(**changes):
    fields = {
        "name": "board",
        "origin": "made up",
        "source": "scaled",
        "processor": "cpu",
        "provider": "CPUExecutionProvider",
        "backend": "none",
        "threads": 1,
        "power": Power(idle_w=2.0, compute_w=4.0, transmit_w=None, source="scaled", origin="made up"),
        "radio": RADIO,
    }
    return MachineProfile(**(fields | changes))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "board.json"
    write_machine(path, profile())
    return path


def counts(tree, busy, idle, sent=0, received=0):
    """Ticks (a fifth of the busy ones in the kernel), and one card's bytes beside loopback's."""
    tree.put({"proc/stat": f"cpu  {busy - busy // 5} 0 {busy // 5} {idle} 0 0 0 0 0 0\ncpu0 1 2 3 4"})
    tree.put({"sys/class/net/wlan0/statistics/tx_bytes": sent})
    tree.put({"sys/class/net/wlan0/statistics/rx_bytes": received})
    tree.put({"sys/class/net/lo/statistics/tx_bytes": 10**9})
    tree.put({"sys/class/net/lo/statistics/rx_bytes": 10**9})


def test_states_are_added_up(tree, clock, file):
    counts(tree, busy=100, idle=100)
    meter = open_meter(f"model:{file}", root=tree.root, clock=clock)
    assert (meter.source, meter.measured) == ("model:board", False)
    clock.pass_s(1.0)
    counts(tree, busy=125, idle=175)  # a quarter busy
    assert meter.read_j() == pytest.approx(2.0 + 0.25 * 4.0)
    clock.pass_s(1.0)
    counts(tree, busy=125, idle=275, sent=1000, received=200)  # at rest, but 1000 B and 200 B cross
    assert meter.read_j() == pytest.approx(3.0 + 2.0 + 1.0 + 0.1)
    clock.pass_s(0.3)
    counts(tree, busy=125, idle=305, sent=1000, received=200)  # 0.3 s of the radio's tail
    assert meter.read_j() == pytest.approx(6.1 + 0.6 + 0.15)
    clock.pass_s(1.0)
    counts(tree, busy=125, idle=405, sent=1000, received=200)  # and the tail's last tenth of a second
    assert meter.read_j() == pytest.approx(6.85 + 2.0 + 0.05)


def test_a_kernel_that_does_not_tell_is_said(tree, clock, file):
    counts(tree, busy=1, idle=1)
    meter = open_meter(f"model:{file}", root=tree.root, clock=clock)
    tree.put({"proc/stat": "intr 5"})
    assert meter.read_j() is None
    assert "proc/stat does not tell busy from idle" in meter.trouble
    with pytest.raises(InputError, match="does not tell busy from idle"):
        open_meter(f"model:{file}", root=tree.root, clock=clock)


def test_profiles_without_watts_are_refused(tree, tmp_path):
    counts(tree, busy=1, idle=1)
    write_machine(tmp_path / "bare.json", profile(power=None))
    with pytest.raises(InputError, match="model:board: the profile knows no watts at rest and computing"):
        open_meter(f"model:{tmp_path / 'bare.json'}", root=tree.root)
    with pytest.raises(ArtifactError, match="no-such-board"):
        open_meter("model:no-such-board", root=tree.root)


def test_auto_never_takes_a_model(tree):
    counts(tree, busy=1, idle=1)
    assert open_meter("auto", root=tree.root) is None
