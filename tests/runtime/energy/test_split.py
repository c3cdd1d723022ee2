"""Joules per frame over windows, and where they went; by hand, then for any run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.energy import RadioModel, is_modelled, split_energy, windows
from isthmus.runtime.errors import InputError

RADIO = RadioModel(
    transmit_j_per_byte=2e-6, receive_j_per_byte=1e-6, tail_w=0.5, tail_s=0.2, source="published"
)


def test_a_minute_of_a_board():
    # 60 s at 2.5 W rest = 150 J; 1 MB sent and 0.5 MB received = 2.5 J, 30 s awake = 15 J.
    split = split_energy(
        240.0,
        source="jetson-ina3221",
        elapsed_s=60.0,
        idle_w=2.5,
        radio=RADIO,
        sent_bytes=1e6,
        received_bytes=5e5,
        awake_s=30.0,
    )
    assert (split.idle_j, split.radio_modelled_j, split.compute_j) == pytest.approx((150.0, 17.5, 72.5))
    assert split.above_idle_j == pytest.approx(90.0)
    assert split.per_frame_j(600) == pytest.approx(0.4)
    assert split.per_frame_j(0) is None
    assert not split.modelled
    assert not split.radio_apart


def test_the_radio_is_no_part_of_what_a_processor_draws():
    split = split_energy(
        100.0, source="rapl", elapsed_s=10.0, idle_w=4.0, radio=RADIO, sent_bytes=1e6, awake_s=1.0
    )
    assert split.radio_apart
    assert (split.radio_modelled_j, split.compute_j) == pytest.approx((2.5, 60.0))


def test_what_is_not_known_stays_unknown():
    split = split_energy(100.0, source="rpi5-pmic", elapsed_s=10.0)
    assert (split.idle_j, split.radio_modelled_j, split.compute_j) == (None, None, None)
    split = split_energy(100.0, source="rpi5-pmic", elapsed_s=10.0, idle_w=3.0)
    assert (split.above_idle_j, split.compute_j) == (70.0, None)
    assert split_energy(100.0, source="rapl", elapsed_s=10.0, idle_w=3.0).compute_j == 70.0


@pytest.mark.parametrize(
    ("source", "modelled"),
    [("model:raspberry-pi-4", True), ("rapl", False), ("replay:model.jsonl", False)],
)
def test_modelled_joules_are_known_by_their_source_alone(source, modelled):
    assert is_modelled(source) == modelled
    assert split_energy(1.0, source=source, elapsed_s=1.0).modelled == modelled


@given(
    total_j=st.floats(0, 1e6),
    elapsed_s=st.floats(0, 1e5),
    idle_w=st.floats(0, 100),
    sent=st.floats(0, 1e9),
    awake_s=st.floats(0, 1e5),
    source=st.sampled_from(["rapl", "rpi5-pmic", "model:x"]),
)
def test_parts_add_up_to_the_total_and_none_is_below_0(total_j, elapsed_s, idle_w, sent, awake_s, source):
    split = split_energy(
        total_j,
        source=source,
        elapsed_s=elapsed_s,
        idle_w=idle_w,
        radio=RADIO,
        sent_bytes=sent,
        awake_s=awake_s,
    )
    parts = [split.idle_j, split.compute_j, 0.0 if split.radio_apart else split.radio_modelled_j]
    assert min(parts) >= -1e-9 * total_j
    assert sum(parts) == pytest.approx(total_j)


def test_windows_from_reading_to_reading():
    readings = [(float(second), 3.0 * second) for second in range(31)]
    frames = [0.5 * half for half in range(61)]  # two a second, the first at 0
    found = windows(readings, frames, width_s=10.0)
    assert [(w.begin_s, w.end_s, w.total_j, w.frames) for w in found] == [
        (0.0, 10.0, 30.0, 20),
        (10.0, 20.0, 30.0, 20),
        (20.0, 30.0, 30.0, 20),
    ]
    assert found[0].per_frame_j == pytest.approx(1.5)
    assert found[0].power_w == pytest.approx(3.0)


def test_a_window_spans_no_reading_that_is_unknown():
    readings = [(0.0, 0.0), (4.0, 4.0), (8.0, None), (9.0, 9.0), (14.0, 19.0), (15.0, 20.0)]
    found = windows(readings, [10.0, 14.5], width_s=5.0)
    assert [(w.begin_s, w.end_s, w.total_j, w.frames) for w in found] == [(9.0, 14.0, 10.0, 1)]


def test_windows_too_short_are_refused():
    with pytest.raises(InputError, match=r"a window of 0\.1 s: give 5 s or more"):
        windows([], [], width_s=0.1)


@given(
    gaps=st.lists(st.tuples(st.floats(0.5, 3.0), st.floats(0, 50), st.booleans()), max_size=60),
    frames=st.lists(st.floats(0, 100), max_size=40),
)
def test_windows_hold_every_frame_and_joule_between_their_readings_once(gaps, frames):
    at_s, energy_j, readings = 0.0, 0.0, []
    for gap_s, grown_j, known in gaps:
        at_s, energy_j = at_s + gap_s, energy_j + grown_j
        readings.append((at_s, energy_j if known else None))
    known = dict(readings)
    frames.sort()
    for window in windows(readings, frames, width_s=5.0):
        assert window.end_s - window.begin_s >= 5.0
        assert window.total_j == known[window.end_s] - known[window.begin_s]
        assert window.frames == sum(window.begin_s < frame_s <= window.end_s for frame_s in frames)
