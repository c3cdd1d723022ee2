"""Thermal readings from made-up boards; the formats are those of real kernels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.device_agents.operation.thermal import ThermalMonitor, ThermalReading


@pytest.fixture
def board(tmp_path):
    """Return `put(path, text)` for a made-up root, which it names as `put.root`."""

    def put(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    put.root = tmp_path
    return put


def _monitor(board, firmware=None):
    return ThermalMonitor(board.root, firmware=lambda: firmware)


def _zone(board, index, kind, temp, passive=None):
    zone = f"sys/class/thermal/thermal_zone{index}"
    board(f"{zone}/type", kind)
    board(f"{zone}/temp", temp)
    board(f"{zone}/trip_point_0_type", "critical")
    board(f"{zone}/trip_point_0_temp", 110000)
    if passive is not None:
        board(f"{zone}/trip_point_1_type", "passive")
        board(f"{zone}/trip_point_1_temp", passive)


def test_a_machine_that_says_nothing_is_unknown_not_cool(board):
    assert _monitor(board).read() == ThermalReading()
    assert _monitor(board).read().throttled is None


def test_the_hottest_computing_zone_counts(board):
    _zone(board, 0, "cpu-thermal", 51200, passive=80000)
    _zone(board, 1, "gpu-thermal", 56500, passive=85000)
    _zone(board, 2, "battery", 70000)
    reading = _monitor(board).read()
    assert (reading.temperature_c, reading.limit_c, reading.throttled) == (56.5, 85.0, False)
    assert reading.source == "sysfs"


def test_a_temperature_without_a_limit_does_not_say_whether_it_throttles(board):
    _zone(board, 0, "soc-thermal", 91000)
    reading = _monitor(board).read()
    assert (reading.temperature_c, reading.throttled) == (91.0, None)


def test_above_the_passive_trip_the_kernel_slows_down(board):
    _zone(board, 0, "CPU-therm", 97000, passive=95000)
    reading = _monitor(board).read()
    assert reading.throttled is True
    assert reading.causes == ("97 °C, above the limit of 95 °C",)


def test_an_engaged_cooling_device_throttles_but_a_fan_does_not(board):
    for index, (kind, state) in enumerate([("pwm-fan", 3), ("thermal-cpufreq-0", 0)]):
        board(f"sys/class/thermal/cooling_device{index}/type", kind)
        board(f"sys/class/thermal/cooling_device{index}/cur_state", state)
        board(f"sys/class/thermal/cooling_device{index}/max_state", 4)
    monitor = _monitor(board)
    assert monitor.read().throttled is False
    board("sys/class/thermal/cooling_device1/cur_state", 2)
    assert monitor.read().causes == ("thermal-cpufreq-0 at step 2 of 4",)


@pytest.mark.parametrize(
    ("said", "throttled", "causes", "since_boot"),
    [
        ("throttled=0x0", False, (), ()),
        (
            "throttled=0x50005",
            True,
            ("under-voltage", "throttled by the firmware"),
            ("under-voltage", "throttled by the firmware"),
        ),
        ("throttled=0xe0000", False, (), ("frequency capped", "throttled by the firmware", "soft temp")),
        ("error", None, (), ()),
    ],
)
def test_the_raspberry_pis_firmware(board, said, throttled, causes, since_boot):
    reading = _monitor(board, firmware=said).read()
    assert (reading.throttled, reading.causes) == (throttled, causes)
    assert len(reading.since_boot) == len(since_boot)
    assert all(got.startswith(name) for got, name in zip(reading.since_boot, since_boot, strict=True))


def test_the_firmwares_file_is_preferred_to_a_process(board):
    board("sys/devices/platform/soc/soc:firmware/get_throttled", "4")

    def never():
        raise AssertionError("the file was there")

    reading = ThermalMonitor(board.root, firmware=never).read()
    assert reading.causes == ("throttled by the firmware",)
    assert reading.source == "firmware"


def test_counters_tell_only_by_rising(board):
    path = "sys/class/hwmon/hwmon3/oc1_event_cnt"
    board(path, 7)
    monitor = _monitor(board)
    assert monitor.read().throttled is False
    board(path, 9)
    assert monitor.read().causes == ("oc1_event_cnt rose by 2",)
    assert monitor.read().throttled is False


@given(st.text(max_size=20))
def test_no_content_of_a_sensor_is_an_error(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("board")
    zone = root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal")
    (zone / "temp").write_text(text, encoding="utf-8", errors="replace")
    reading = ThermalMonitor(root, firmware=lambda: text).read()
    assert reading.temperature_c is None or -40 <= reading.temperature_c <= 150
