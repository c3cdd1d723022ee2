"""A recording gives back the joules it holds, and none that it does not."""

import pytest

from isthmus.runtime.energy import open_meter
from isthmus.runtime.errors import InputError


@pytest.fixture
def recording(tmp_path):
    file = tmp_path / "run.jsonl"
    file.write_text(
        '{"type":"run","at_s":4.0}\n'
        '{"type":"link","at_s":5.0,"energy_j":10.0}\n'
        '{"type":"link","at_s":6.0,"energy_j":null}\n'
        '{"type":"link","at_s":7.0,"energy_j":16.0}\n'
        '{"type":"link","at_s":8.0,"energy_j":17.0}\n'
    )
    return file


def test_a_recording_is_replayed_from_its_first_joules(recording, clock):
    meter = open_meter(f"replay:{recording}", clock=clock)
    said = []
    for elapsed_s in (0.0, 1.0, 2.0, 2.5, 3.0, 3.5):
        clock.now_s = 1000.0 + elapsed_s
        said.append(meter.read_j())
    # 10 to 16 J between seconds 5 and 7, 17 J at second 8, nothing is known beyond.
    assert said == [0.0, 3.0, 6.0, 6.5, 7.0, None]
    assert "ended" in meter.trouble


def test_what_was_modelled_stays_so(recording):
    assert open_meter(f"replay:{recording}").measured
    with recording.open("a") as file:
        file.write('{"type":"link","at_s":9.0,"energy_j":18.0,"energy_source":"model:pi4"}\n')
    meter = open_meter(f"replay:{recording}")
    assert (meter.measured, meter.source) == (False, f"model:replay:{recording}")


def test_a_torn_last_line_is_ignored(recording):
    recording.write_bytes(recording.read_bytes() + b'{"type":"link","at_s":9.0,"ener')
    assert open_meter(f"replay:{recording}").read_j() is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"at_s":1,"energy_j":1}\n', "fewer than two"),
        ('{"at_s":1,"energy_j":1}\nwatts\n{"at_s":2,"energy_j":2}\n', ":2: no JSON object"),
        ('{"at_s":1,"energy_j":1}\n{"at_s":2,"energy_j":0.5}\n', ":2: time or joules run backwards"),
        ('{"at_s":2,"energy_j":1}\n{"at_s":1,"energy_j":2}\n', ":2: time or joules run backwards"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, text, message):
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        open_meter(f"replay:{file}")


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(InputError, match=r"away\.jsonl: No such file"):
        open_meter(f"replay:{tmp_path / 'away.jsonl'}")
