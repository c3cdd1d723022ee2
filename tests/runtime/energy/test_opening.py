"""Names of meters, and which of several sensors is taken."""

import pytest

from isthmus.runtime.energy import find_sensors, open_meter
from isthmus.runtime.errors import InputError


def test_none_is_no_meter(tree):
    assert open_meter("none", root=tree.root) is None
    assert find_sensors(tree.root) == []


@pytest.mark.parametrize(
    "spec", ["", "watts", "model", "model:", "serial:", "replay:", "nvml:x", "auto+rapl", "rapl+model:pi4"]
)
def test_what_is_no_meter_is_refused_with_those_that_are(spec, tree):
    with pytest.raises(InputError, match="is not known; give auto, none, jetson, rpi5, rapl"):
        open_meter(spec, root=tree.root)


def test_a_part_that_is_named_twice_would_be_counted_twice(tree, clock):
    zone = "sys/class/powercap/intel-rapl:0"
    tree.put({f"{zone}/name": "package-0", f"{zone}/energy_uj": 0, f"{zone}/max_energy_range_uj": 2**40})
    with pytest.raises(InputError, match="'rapl' is named twice"):
        open_meter("rapl+rapl", root=tree.root, clock=clock)


def test_auto_prefers_what_sees_the_whole_module(tree):
    drivers = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    zone = "sys/class/powercap/intel-rapl:0"
    tree.put({f"{drivers}/rail_name_0": "POM_5V_IN", f"{drivers}/in_power0_input": 2000})
    tree.put({f"{zone}/name": "package-0", f"{zone}/energy_uj": 0, f"{zone}/max_energy_range_uj": 2**40})
    assert open_meter("auto", root=tree.root).source == "jetson-ina3221"
    assert [found.source for found in find_sensors(tree.root)] == ["jetson-ina3221", "rapl"]
