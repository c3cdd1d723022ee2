"""What is written reads back as the same trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import InputError
from isthmus.runtime.links import WRITERS, RateTrace, load_trace, parse_trace

traces = st.lists(
    st.tuples(
        st.floats(min_value=0.001, max_value=5.0),
        st.one_of(st.just(0.0), st.floats(min_value=1.0, max_value=1e7)),
    ),
    min_size=1,
    max_size=12,
).map(RateTrace)


def _assert_equal(read, written):
    assert read.duration_s == pytest.approx(written.duration_s, rel=1e-9)
    assert len(read.segments()) == len(written.segments())
    for (start_s, rate), (expected_s, expected) in zip(read.segments(), written.segments(), strict=True):
        assert start_s == pytest.approx(expected_s, rel=1e-9, abs=1e-12)
        assert rate == pytest.approx(expected, rel=1e-9)


@given(traces)
@pytest.mark.parametrize("form", ["columns", "json"])
def test_columns_and_json_keep_every_segment(form, trace):
    _assert_equal(parse_trace(WRITERS[form](trace), name="t"), trace)


@given(traces)
def test_a_table_keeps_every_segment(tmp_path_factory, trace):
    file = tmp_path_factory.mktemp("trace") / "t.csv"
    file.write_text(WRITERS["csv"](trace))
    _assert_equal(load_trace(f"csv:{file},rate=rate_bytes_per_s,unit=B,until=until_s"), trace)


def test_mahimahi_keeps_packets_and_duration():
    # 1,500 bytes every 10 ms for 1 s, then half a second of nothing.
    trace = RateTrace([(1.0, 150_000.0), (0.5, 0.0)])
    lines = WRITERS["mahimahi"](trace).split()
    assert lines[:3] == ["10", "20", "30"]
    assert (len(lines), lines[-1]) == (100, "1500")
    assert WRITERS["mahimahi"](RateTrace([(0.0301, 100_000.0)])) == "15\n31\n"


@given(st.floats(min_value=0.05, max_value=3.0), st.floats(min_value=60_000, max_value=3e6))
def test_mahimahi_carries_the_same_within_a_packet(seconds, rate):
    trace = RateTrace([(seconds, rate), (seconds, 0.0), (seconds, rate / 2)])
    read = parse_trace(WRITERS["mahimahi"](trace), name="t")
    assert read.bytes_per_loop == pytest.approx(trace.bytes_per_loop, abs=751)
    assert read.duration_s == pytest.approx(trace.duration_s, abs=1.001e-3)
    half_s = 1.5 * seconds
    assert read.bytes_between(0, half_s) == pytest.approx(trace.bytes_between(0, half_s), abs=1501)


@pytest.mark.parametrize("rate", [0.0, 10.0, 1e12])
def test_what_is_no_mahimahi_trace_is_refused(rate):
    with pytest.raises(InputError, match=r"dull: .* packets of 1500 bytes .* choose another format"):
        WRITERS["mahimahi"](RateTrace([(50.0, rate)], name="dull"))
