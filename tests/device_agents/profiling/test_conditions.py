"""What the device is like: from made-up sysfs trees and readings; None where nobody says."""

import pytest

from isthmus.device_agents.operation.thermal import ThermalMonitor, ThermalReading
from isthmus.device_agents.profiling.conditions import (
    Conditions,
    Moment,
    Watch,
    read_frequency_hz,
    summarise,
)


def moment(at_s, **changes):
    facts = {
        "rss_bytes": 100,
        "thermal": ThermalReading(),
        "frequency_hz": 1.5e9,
        "busy_s": 10.0 + at_s,
        "total_s": 100.0 + 4 * at_s,
        "own_s": 5.0 + 0.75 * at_s,
    }
    return Moment(at_s=at_s, **{**facts, **changes})


def test_shares_of_the_processors_are_those_between_first_and_last():
    found = summarise([moment(0.0), moment(1.0), moment(2.0)])
    assert found.busy_share == pytest.approx(0.25)
    assert found.others_share == pytest.approx(0.25 - 0.1875)
    assert found.frequency_min_hz == found.frequency_median_hz == found.frequency_max_hz == 1.5e9


def test_extremes_count_and_causes_are_kept_once():
    hot = ThermalReading(temperature_c=82.0, throttled=True, causes=("frequency capped",))
    found = summarise(
        [
            moment(0.0, thermal=ThermalReading(temperature_c=60.0, throttled=False), rss_bytes=300),
            moment(1.0, thermal=hot, frequency_hz=0.6e9),
            moment(2.0, thermal=hot, frequency_hz=None),
        ]
    )
    assert (found.temperature_c, found.throttled, found.causes) == (82.0, True, ("frequency capped",))
    assert (found.frequency_min_hz, found.frequency_max_hz, found.rss_bytes) == (0.6e9, 1.5e9, 300)


def test_what_nobody_says_is_none():
    assert summarise([]) == Conditions()
    found = summarise([moment(0.0, frequency_hz=None)])
    assert found.frequency_max_hz is None
    assert found.temperature_c is None
    assert found.throttled is None
    assert found.busy_share is None  # one reading is no stretch of time


def test_frequency_of_the_quickest_core(tmp_path):
    assert read_frequency_hz(tmp_path) is None
    for core, kilohertz in enumerate((600_000, 1_500_000)):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{kilohertz}\n")
    assert read_frequency_hz(tmp_path) == 1.5e9


def test_frequency_where_only_cpuinfo_says_it(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\ncpu MHz\t\t: 2593.9\nprocessor\t: 1\ncpu MHz : 800\n"
    )
    assert read_frequency_hz(tmp_path) == pytest.approx(2593.9e6)
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nModel : Raspberry Pi 4\n")
    assert read_frequency_hz(tmp_path) is None


def test_a_watch_knows_what_it_saw_since_an_instant(tmp_path):
    now_s = [0.0]

    class Monitor(ThermalMonitor):
        def read(self):
            return ThermalReading(temperature_c=50.0 + now_s[0])

    watch = Watch(Monitor(tmp_path), frequency=lambda: 1e9, clock=lambda: now_s[0])
    for now in (0.0, 1.0, 2.0, 3.0):
        now_s[0] = now
        assert watch.look() == now
    now_s[0] = 3.5
    found = watch.since(2.0)
    assert found.temperature_c == 53.5
    assert found.rss_bytes > 1_000_000
    assert [seen.at_s for seen in watch.moments] == [0.0, 1.0, 2.0, 3.0, 3.5]
    now_s[0] = 1.0
    assert watch.since(9.0).rss_bytes is None


def test_a_watch_looks_by_itself_until_it_is_closed():
    watch = Watch(frequency=lambda: None)
    watch.start()
    watch.close()
    seen = len(watch.moments)
    assert seen >= 1
    assert watch.moments[0].total_s > watch.moments[0].busy_s > 0
    assert len(watch.moments) == seen
