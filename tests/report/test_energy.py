"""Joules of a run by where they went: hand-computed."""

import msgspec
import pytest

from isthmus.report import load_runs, summarise
from isthmus.runtime.control import DEFAULT_OVERHEAD_BYTES
from isthmus.runtime.energy import RadioModel
from isthmus.runtime.events import EndEvent, EventLog, FrameEvent, LinkEvent, RunEvent

RADIO = RadioModel(
    transmit_j_per_byte=1e-4,
    receive_j_per_byte=1e-4,
    tail_w=0.5,
    tail_s=2.0,
    source="published",
    origin="A 1",
)
START_S = 50.0


def link(second, energy_j, source="rpi5-pmic"):
    return LinkEvent(
        at_s=START_S + second, connected=True, rate_bytes_per_s=1e4, rtt_s=0.01, backlog_bytes=0,
        energy_j=energy_j, energy_source=source,
    )  # fmt: skip


@pytest.fixture
def write_log(tmp_path):
    """Return a writer of runs of 20 frames, one a second; those before the 15th were sent, 100 B each."""

    def write(links, *, idle_w=None, radio=None):
        path = tmp_path / "events.jsonl"
        log = EventLog(path)
        log.write(
            RunEvent(
                at_s=START_S, unix_s=0.0, bundle="b", bundle_digest="0" * 64, source="s", policy="p",
                server="h:1", deadline_s=0.1, fps=1.0, widths=(1.0,), labels=("a",), teacher_utility=0.9,
                isthmus_version="0", idle_w=idle_w, radio=radio,
            )
        )  # fmt: skip
        for event in links:
            log.write(event)
        for n in range(20):
            log.write(
                FrameEvent(
                    at_s=START_S + n + 0.05, frame=n, captured_s=START_S + n, outcome="remote",
                    payload_bytes=100 if n < 15 else 0, latency_s=0.05,
                )
            )  # fmt: skip
        log.write(EndEvent(at_s=START_S + 20, captured=20, outcomes={"remote": 20}))
        log.close()
        return summarise(load_runs([path])[0]).energy

    return write


def test_joules_are_split_into_idle_radio_and_the_rest(write_log):
    use = write_log([link(n, 4.0 * n) for n in range(21)], idle_w=1.5, radio=RADIO)
    assert (use.source, use.measured, use.total_j, use.seconds) == ("rpi5-pmic", True, 80.0, 20.0)
    assert (use.frames, use.per_frame_j, use.power_w) == (20, 4.0, 4.0)
    assert use.idle_j == 30.0
    # 15 transfers of payload and overhead; awake for the 14 seconds between them.
    radio_j = 15 * (100 + DEFAULT_OVERHEAD_BYTES) * 1e-4 + 14 * 0.5
    assert use.radio_j == pytest.approx(radio_j)
    assert use.compute_j == pytest.approx(80.0 - 30.0 - radio_j)
    assert use.radio_source == "published: A 1"


def test_a_tail_shorter_than_the_pause_bounds_the_radio(write_log):
    short = msgspec.structs.replace(RADIO, tail_s=0.25, transmit_j_per_byte=0.0)
    use = write_log([link(n, 4.0 * n) for n in range(21)], radio=short)
    assert use.radio_j == pytest.approx(14 * 0.25 * 0.5)


def test_without_idle_watts_nothing_is_said_to_be_computing(write_log):
    use = write_log([link(n, 4.0 * n) for n in range(21)])
    assert (use.idle_j, use.radio_j, use.compute_j) == (None, None, None)


def test_without_a_meter_there_is_no_figure(write_log):
    assert write_log([link(n, None, None) for n in range(21)]) is None


def test_modelled_joules_are_called_so(write_log):
    assert not write_log([link(n, 1.0 * n, "model:raspberry-pi-4") for n in range(21)]).measured
    mixed = [link(n, 1.0 * n, "rapl" if n < 5 else "model:laptop") for n in range(21)]
    use = write_log(mixed)
    assert (use.source, use.measured) == ("rapl, model:laptop", False)


def test_a_meter_that_began_anew_goes_on_counting(write_log):
    readings = [4.0 * n if n < 10 else 4.0 * (n - 10) for n in range(21)]
    assert write_log([link(n, joules) for n, joules in enumerate(readings)]).total_j == pytest.approx(36 + 40)


def test_only_what_the_meter_covers_is_counted(write_log):
    use = write_log([link(n, 4.0 * n if n <= 10 else None) for n in range(21)])
    assert (use.total_j, use.seconds, use.frames) == (40.0, 10.0, 11)


def test_power_over_time_is_of_whole_windows(write_log):
    use = write_log([link(n, 2.0 * min(n, 10) + 6.0 * max(n - 10, 0)) for n in range(21)])
    assert [window.power_w for window in use.windows] == pytest.approx([2.0, 2.0, 6.0, 6.0])
    assert [window.end_s for window in use.windows] == [5.0, 10.0, 15.0, 20.0]


def test_parts_never_exceed_the_whole_silently(write_log):
    use = write_log([link(n, 1.0 * n) for n in range(21)], idle_w=3.0)
    assert use.compute_j == pytest.approx(20.0 - 60.0)
