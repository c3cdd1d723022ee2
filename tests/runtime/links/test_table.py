"""A named column of a CSV file as a trace."""

import pytest

from isthmus.runtime.errors import InputError
from isthmus.runtime.links import load_trace

TABLE = "Timestamp,NetworkMode,DL_bitrate\n100.0,LTE,800\n100.5,LTE,0\n102.5,5G,1600\n"


@pytest.fixture
def table(tmp_path):
    def make(text=TABLE):
        file = tmp_path / "run,1.csv"  # a comma in the name is no option
        file.write_text(text)
        return f"csv:{file}"

    return make


def test_a_row_holds_until_the_next_and_the_last_as_long_as_the_one_before(table):
    trace = load_trace(f"{table()},rate=DL_bitrate,unit=kbit,time=Timestamp")
    assert trace.segments() == [(0.0, 100_000.0), (0.5, 0.0), (2.5, 200_000.0)]
    assert trace.duration_s == 4.5


def test_a_row_may_hold_up_to_its_time(table):
    spec = table("until,rate\n2,5\n3,7\n")
    assert load_trace(f"{spec},rate=rate,unit=kB,until=until").segments() == [(0.0, 5000.0), (2.0, 7000.0)]


def test_rows_may_be_evenly_spaced(table):
    trace = load_trace(f"{table()},every=250ms,rate=DL_bitrate,unit=kbit")
    assert trace.segments() == [(0.0, 100_000.0), (0.25, 0.0), (0.5, 200_000.0)]
    assert trace.duration_s == 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "lacks rate"),
        (",rate=DL_bitrate,every=1s", "lacks unit"),
        (",rate=DL_bitrate,unit=kbit", "needs one clock"),
        (",rate=DL_bitrate,unit=kbit,every=1s,time=Timestamp", "needs one clock"),
        (",rate=x,rate=DL_bitrate,unit=kbit,every=1s", "rate is given twice"),
        (",rate=speed,unit=kbit,every=1s", "no column 'speed'; the header has Timestamp, NetworkMode"),
        (",rate=NetworkMode,unit=kbit,every=1s", ":2: NetworkMode is 'LTE', not a number"),
        (",rate=DL_bitrate,unit=furlong,every=1s", "rate '1furlong'"),
        (",rate=DL_bitrate,unit=kbit,every=0s", "a segment lasts 0.0 s"),
        (",rate=DL_bitrate,unit=kbit,every=1", "duration '1'"),
        (",rate=DL_bitrate,unit=kbit,time=DL_bitrate", ":3: 0 s comes after 800 s; times must rise"),
    ],
)
def test_what_is_missing_or_wrong_is_named(table, options, message):
    with pytest.raises(InputError, match=message) as caught:
        load_trace(table() + options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("t,r\n", "0 rows"),
        ("t,r\n1,5\n", "1 rows"),
        ("t,r\n1,5\n2,-1\n", ":3: r is '-1'"),
        ("t,r\n1,5\n2\n", ":3: r is None"),
        ("t,r\n1,nan\n2,1\n", ":2: r is 'nan'"),
    ],
)
def test_a_table_without_two_good_rows_is_refused(table, text, message):
    with pytest.raises(InputError, match=message):
        load_trace(f"{table(text)},rate=r,unit=kB,time=t")


def test_no_file_is_no_trace():
    with pytest.raises(InputError, match="names no file"):
        load_trace("csv:,rate=r,unit=kB,every=1s")
    with pytest.raises(InputError, match="No such file"):
        load_trace("csv:none.csv,rate=r,unit=kB,every=1s")
