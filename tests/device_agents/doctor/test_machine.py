"""Findings about made-up machines."""

import pytest

from isthmus.device_agents.doctor import examine_machine


@pytest.fixture
def board(tmp_path):
    def put(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    put.root = tmp_path
    return put


def _found(board, name, state=0):
    findings = {finding.name: finding for finding in examine_machine(board.root, clock_state=lambda: state)}
    return findings[name]


def test_a_machine_that_says_nothing_has_no_fault(board):
    findings = examine_machine(board.root, clock_state=lambda: None)
    assert len({finding.name for finding in findings}) == len(findings) == 9
    assert all(finding.level != "fail" for finding in findings)
    assert all(finding.remedy for finding in findings if finding.level != "ok")


@pytest.mark.parametrize(
    ("files", "name", "level", "says"),
    [
        ({"clocksource/clocksource0/current_clocksource": "tsc"}, "clock source", "ok", "tsc"),
        ({"clocksource/clocksource0/current_clocksource": "hpet"}, "clock source", "warn", "hpet"),
        ({"cpu/cpu0/cpufreq/scaling_governor": "schedutil"}, "CPU governor", "ok", "schedutil"),
        ({"cpu/cpu0/cpufreq/scaling_governor": "powersave"}, "CPU governor", "warn", "powersave"),
        (
            {
                "cpu/cpu0/cpufreq/scaling_governor": "powersave",
                "cpu/cpu0/cpufreq/scaling_driver": "intel_pstate",
            },
            "CPU governor",
            "ok",
            "powersave (intel_pstate)",
        ),
        (
            {"cpu/cpu0/cpufreq/scaling_max_freq": 1_800_000, "cpu/cpu0/cpufreq/cpuinfo_max_freq": 1_800_000},
            "CPU frequency",
            "ok",
            "up to 1.80 GHz",
        ),
        (
            {"cpu/cpu3/cpufreq/scaling_max_freq": 600_000, "cpu/cpu3/cpufreq/cpuinfo_max_freq": 1_500_000},
            "CPU frequency",
            "warn",
            "limited to 40% of 1.50 GHz",
        ),
    ],
)
def test_clock_and_speed(board, files, name, level, says):
    for path, text in files.items():
        board(f"sys/devices/system/{path}", text)
    finding = _found(board, name)
    assert finding.level == level
    assert says in finding.text


def test_an_unsynchronised_clock_is_a_warning(board):
    assert _found(board, "clock sync", state=5).level == "warn"
    assert _found(board, "clock sync", state=0).text == "synchronised"


def test_a_throttled_raspberry_pi(board):
    board("sys/devices/platform/soc/soc:firmware/get_throttled", "50005")
    finding = _found(board, "temperature")
    assert (finding.level, "under-voltage" in finding.text) == ("warn", True)
    board("sys/devices/platform/soc/soc:firmware/get_throttled", "50000")
    assert "since it started" in _found(board, "temperature").text


def test_without_an_energy_sensor_the_doctor_names_the_other_ways(board):
    finding = _found(board, "energy sensor")
    assert finding.level == "warn"
    assert finding.text == "none: joules can only be modelled (--energy model:PROFILE)"
    assert "command:" in finding.remedy


def test_an_energy_sensor_that_can_be_read(board):
    board("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0", "POM_5V_IN")
    board("sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input", "2400")
    finding = _found(board, "energy sensor")
    assert (finding.level, finding.text) == ("ok", "jetson-ina3221: the whole module")


def test_an_energy_sensor_that_cannot_be_read_says_why_and_what_to_do(board):
    for name, text in {"name": "package-0", "max_energy_range_uj": "262143328850"}.items():
        board(f"sys/class/powercap/intel-rapl:0/{name}", text)
    finding = _found(board, "energy sensor")
    assert finding.level == "warn"
    assert finding.text.endswith("intel-rapl:0/energy_uj: No such file or directory")
    assert finding.remedy.startswith("only root may read it: run as root")
    board("sys/class/powercap/intel-rapl:0/energy_uj", "5")
    assert _found(board, "energy sensor").level == "ok"
