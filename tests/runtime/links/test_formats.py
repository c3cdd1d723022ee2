import json

import pytest

from isthmus.runtime.errors import InputError
from isthmus.runtime.links import load_trace, parse_trace


def test_mahimahi_lines_are_packets_of_1500_bytes():
    # Three packets in the first 20 ms, none in the second, one at the very end of the recording.
    trace = parse_trace("0\n5\n5\n60\n", name="t")
    assert trace.duration_s == pytest.approx(0.06)
    assert trace.bytes_per_loop == pytest.approx(4 * 1500)
    assert trace.rate_at(0.01) == pytest.approx(3 * 1500 / 0.02)
    assert trace.rate_at(0.03) == 0
    assert trace.rate_at(0.05) == pytest.approx(1500 / 0.02)


def test_a_recording_need_not_end_with_a_whole_bin():
    trace = parse_trace("10\n25\n", name="t")
    assert trace.duration_s == pytest.approx(0.025)
    assert trace.bytes_per_loop == pytest.approx(3000)
    assert trace.rate_at(0.024) == pytest.approx(1500 / 0.005)


@pytest.mark.parametrize("text", ["1.0 0.8\n3.0 1.6\n", "1.0,0.8\n3.0,1.6\n", "# note\n\n1.0\t0.8\n3.0 1.6"])
def test_two_columns_hold_until_their_second(text):
    trace = parse_trace(text, name="t")
    assert trace.segments() == [(0.0, 100_000.0), (1.0, pytest.approx(200_000.0))]
    assert trace.duration_s == 3.0


def test_a_first_line_at_zero_seconds_ends_nothing():
    assert parse_trace("0.0 9.9\n2.0 0.8\n", name="t").segments() == [(0.0, 100_000.0)]


def test_ghent_json():
    entries = [
        {"duration_ms": 500, "bandwidth_kbps": 800, "latency_ms": 20},
        {"duration_ms": 1500, "bandwidth_kbps": 0, "latency_ms": 20},
    ]
    trace = parse_trace(json.dumps(entries), name="t")
    assert trace.segments() == [(0.0, 100_000.0), (0.5, 0.0)]
    assert trace.duration_s == 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t: an empty trace"),
        ("# only a comment\n", "t: an empty trace"),
        ("5\n-3\n", "t:2: '-3'"),
        ("5\n3\n", "t:2: 3 ms comes after 5 ms"),
        ("0\n0\n", "t: every packet leaves at 0 ms"),
        ("1.0 2.0 3.0\n", "t:1: '1.0 2.0 3.0'"),
        ("1.0 2.0\n7\n", "t:2: '7'"),
        ("1.0 fast\n", "t:1: '1.0 fast'"),
        ("1.0 -2.0\n", "t:1: .*rate ≥ 0"),
        ("1.0 nan\n", "t:1: .*finite"),
        ("2.0 1.0\n1.0 1.0\n", "t:2: 1.0 s comes after 2.0 s"),
        ("0.0 1.0\n", "t: holds no rate"),
        ("[]", "t: holds no rate"),
        ("[1, 2]", "t: not a list of"),
        ('[{"duration_ms": 5}]', "t: not a list of"),
        ("[{", "t: not a list of"),
        ('[{"duration_ms": 0, "bandwidth_kbps": 1}]', "t: a segment lasts 0.0 s"),
        ('[{"duration_ms": 5, "bandwidth_kbps": -1}]', "t: rate"),
    ],
)
def test_bad_lines_are_named(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_trace(text, name="t")
    assert "\n" not in str(caught.value)


def test_specifications():
    assert load_trace("constant:1.5Mbit").rate_at(7.0) == 187_500
    step = load_trace("step:20kB@5s,3kB@500ms,0B@3s")
    assert step.segments() == [(0.0, 20_000.0), (5.0, 3_000.0), (5.5, 0.0)]
    assert load_trace("outage").name == "outage"


def test_a_file_is_told_by_its_content(tmp_path):
    file = tmp_path / "anything.xyz"
    file.write_text("2.0 0.8\n")
    assert load_trace(str(file)).rate_at(0.0) == 100_000


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nosuchfile", "nosuchfile.*No such file.*'outage'"),
        ("constant:fast", "rate 'fast'"),
        ("constant:5", "rate '5'"),
        ("step:20kB", "'20kB' is not RATE@DURATION"),
        ("step:20kB@5", "duration '5'"),
        ("step:20kB@0s", "positive duration"),
        ("", "trace ''"),
    ],
)
def test_bad_specifications_name_value_and_remedy(spec, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        load_trace(spec)


def test_a_folder_and_a_binary_file_are_no_traces(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        load_trace(str(tmp_path))
    binary = tmp_path / "image.png"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        load_trace(str(binary))


@pytest.mark.data
def test_every_recorded_trace_loads_and_a_known_one_has_its_mean(recorded_traces):
    files = [file for file in recorded_traces.glob("*/*") if file.name != "README"]
    assert len(files) > 100
    for file in files:
        assert load_trace(str(file)).duration_s > 1
    uplink = load_trace(str(recorded_traces / "mahimahi" / "ATT-LTE-driving.up"))
    packets = len((recorded_traces / "mahimahi" / "ATT-LTE-driving.up").read_text().split())
    assert uplink.bytes_per_loop == pytest.approx(packets * 1500)
    assert uplink.mean_rate * 8e-6 == pytest.approx(0.83, abs=0.01)
