"""Jetson power monitors in the layouts of their kernels, with joules computed by hand."""

import pytest

from isthmus.runtime.energy import open_meter
from isthmus.runtime.errors import InputError

DRIVERS = "sys/bus/i2c/drivers"


def hwmon_rail(number, label, millivolts, milliamperes, chip="ina3221/1-0040/hwmon/hwmon3"):
    folder = f"{DRIVERS}/{chip}"
    return {
        f"{folder}/in{number}_label": label,
        f"{folder}/in{number}_input": millivolts,
        f"{folder}/curr{number}_input": milliamperes,
    }


def iio_rail(number, label, milliwatts, chip="ina3221x/6-0040/iio:device0"):
    folder = f"{DRIVERS}/{chip}"
    return {f"{folder}/rail_name_{number}": label, f"{folder}/in_power{number}_input": milliwatts}


@pytest.fixture
def orin_nano(tree):
    """JetPack 5 and 6: VDD_IN is the module's input; channel 7 sums the shunts' voltages."""
    tree.put(hwmon_rail(1, "VDD_IN", 5000, 1000))
    tree.put(hwmon_rail(2, "VDD_CPU_GPU_CV", 5000, 400))
    tree.put(hwmon_rail(3, "VDD_SOC", 5000, 300))
    tree.put({f"{DRIVERS}/ina3221/1-0040/hwmon/hwmon3/in7_label": "sum of shunt voltages"})
    return tree.put({f"{DRIVERS}/ina3221/1-0040/hwmon/hwmon3/in7_input": 17})


def test_watts_of_the_input_are_integrated_by_trapezoids(orin_nano, clock):
    meter = open_meter("auto", root=orin_nano.root, clock=clock)
    assert (meter.source, meter.measured, meter.read_j()) == ("jetson-ina3221", True, 0.0)
    clock.pass_s(2.0)
    orin_nano.put(hwmon_rail(1, "VDD_IN", 5000, 2000))
    assert meter.read_j() == pytest.approx(15.0)  # from 5 W to 10 W in 2 s
    clock.pass_s(1.0)
    assert meter.read_j() == pytest.approx(25.0)  # 10 W for 1 s


def test_modules_without_an_input_rail_are_the_sum_of_their_rails(tree, clock):
    """AGX Orin: two monitors, unconnected channels."""
    second = "ina3221/1-0041/hwmon/hwmon4"
    tree.put(hwmon_rail(1, "VDD_GPU_SOC", 20000, 100))  # 2 W
    tree.put(hwmon_rail(2, "VDD_CPU_CV", 20000, 50))  # 1 W
    tree.put(hwmon_rail(3, "VIN_SYS_5V0", 5000, 600))  # 3 W
    tree.put(hwmon_rail(1, "NC", 20000, 9999, second))
    tree.put(hwmon_rail(2, "VDDQ_VDD2_1V8AO", 20000, 25, second))  # 0.5 W
    meter = open_meter("jetson", root=tree.root, clock=clock)
    clock.pass_s(4.0)
    assert meter.read_j() == pytest.approx(26.0)


def test_the_older_kernels_layout_of_a_jetson_nano(tree, clock):
    tree.put(iio_rail(0, "POM_5V_IN", 2400))
    tree.put(iio_rail(1, "POM_5V_GPU", 200))
    tree.put(iio_rail(2, "POM_5V_CPU", 500))
    meter = open_meter("auto", root=tree.root, clock=clock)
    assert meter.source == "jetson-ina3221"
    clock.pass_s(0.5)
    tree.put(iio_rail(0, "POM_5V_IN", 3600))
    assert meter.read_j() == pytest.approx(1.5)  # 3 W on average for half a second


def test_the_older_layout_summed_over_two_monitors(tree, clock):
    """AGX Xavier: six rails and no input."""
    for number, (label, milliwatts) in enumerate((("GPU", 1000), ("CPU", 2000), ("SOC", 1500))):
        tree.put(iio_rail(number, label, milliwatts, "ina3221x/1-0040/iio:device0"))
    for number, (label, milliwatts) in enumerate((("CV", 0), ("VDDRQ", 500), ("SYS5V", 2500))):
        tree.put(iio_rail(number, label, milliwatts, "ina3221x/1-0041/iio:device1"))
    meter = open_meter("jetson", root=tree.root, clock=clock)
    clock.pass_s(2.0)
    assert meter.read_j() == pytest.approx(15.0)


def test_thor_tells_microwatts_by_ina238_and_its_rails_are_not_added(tree, clock):
    tree.put({f"{DRIVERS}/ina238/2-0044/hwmon/hwmon0/power1_input": 31_250_000})
    tree.put(hwmon_rail(1, "VDD_GPU", 5000, 1000))
    meter = open_meter("auto", root=tree.root, clock=clock)
    assert meter.source == "jetson-ina238"
    clock.pass_s(2.0)
    assert meter.read_j() == pytest.approx(62.5)


def test_a_monitor_that_vanishes_for_a_moment_is_bridged(orin_nano, clock):
    meter = open_meter("jetson", root=orin_nano.root, clock=clock)
    clock.pass_s(1.0)
    current = f"{DRIVERS}/ina3221/1-0040/hwmon/hwmon3/curr1_input"
    orin_nano.remove(current)
    assert meter.read_j() is None
    assert f"{current}: No such file or directory; see whether its driver is bound" in meter.trouble
    clock.pass_s(1.0)
    orin_nano.put({current: 1400})
    assert meter.read_j() == pytest.approx(12.0)  # 5 W to 7 W over 2 s
    assert meter.trouble is None


def test_after_a_long_gap_the_joules_stay_unknown(orin_nano, clock):
    meter = open_meter("jetson", root=orin_nano.root, clock=clock)
    clock.pass_s(11.0)
    assert meter.read_j() is None
    assert meter.trouble == ("jetson-ina3221: no reading for 11 s; the joules from there on are unknown")
    clock.pass_s(0.1)
    assert meter.read_j() is None


def test_an_offset_below_0_is_0_and_more_than_that_is_no_reading(orin_nano, clock):
    orin_nano.put(hwmon_rail(1, "VDD_IN", 5000, -4))
    meter = open_meter("jetson", root=orin_nano.root, clock=clock)
    clock.pass_s(1.0)
    assert meter.read_j() == 0.0
    orin_nano.put(hwmon_rail(1, "VDD_IN", 5000, -400))
    assert meter.read_j() is None
    assert "-2.0 W, below 0" in meter.trouble


def test_a_monitor_that_cannot_be_read_is_refused_by_name_and_skipped_by_auto(orin_nano):
    orin_nano.put({f"{DRIVERS}/ina3221/1-0040/hwmon/hwmon3/in1_input": "?"})
    with pytest.raises(InputError, match=r"in1_input holds '\?', no number"):
        open_meter("jetson", root=orin_nano.root)
    assert open_meter("auto", root=orin_nano.root) is None
