import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import InputError
from isthmus.runtime.units import (
    format_bytes,
    format_duration,
    format_rate,
    parse_duration_s,
    parse_rate_bytes_per_s,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("150ms", 0.15),
        ("5s", 5.0),
        ("1m", 60.0),
        ("1min", 60.0),
        ("2h", 7200.0),
        ("250us", 250e-6),
        ("250µs", 250e-6),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("0s", 0.0),
        (" 10 ms ", 0.01),
    ],
)
def test_durations(text, seconds):
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "150", "ms", "-5s", "5 parsecs", "1e3s", "nan s", "5s5s", "5S", "٣s", "9" * 400 + "s"]
)
def test_durations_without_a_number_or_a_unit_are_refused_with_a_remedy(text):
    with pytest.raises(InputError, match=r"(?s)duration.*(150ms|finite)"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1.5Mbit", 187_500.0),
        ("200kbit/s", 25_000.0),
        ("300kB", 300_000.0),
        ("20 kB/s", 20_000.0),
        ("1Gbit", 125e6),
        ("2MB", 2e6),
        ("800bit", 100.0),
        ("0B", 0.0),
    ],
)
def test_rates(text, rate):
    assert parse_rate_bytes_per_s(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "20", "20k", "20KB", "20Kbit", "20mbit", "-1kB", "1kB/s/s", "kB"])
def test_rates_of_unknown_unit_are_refused_with_a_remedy(text):
    with pytest.raises(InputError, match=r"rate .* 1\.5Mbit"):
        parse_rate_bytes_per_s(text)


def test_bits_and_bytes_differ_by_eight():
    assert parse_rate_bytes_per_s("8kbit") == parse_rate_bytes_per_s("1kB")


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_an_input_error(text):
    for parse in (parse_duration_s, parse_rate_bytes_per_s):
        try:
            value = parse(text)
        except InputError:
            continue
        assert 0 <= value < float("inf")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0123, "12.3 ms"),
        (0.15, "150 ms"),
        (0.00085, "850 µs"),
        (4.2, "4.2 s"),
        (90.0, "90 s"),
        (200.0, "3 m 20 s"),
        (333_330.0, "92 h 36 m"),
    ],
)
def test_durations_for_people(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (312, "312 B"), (1500, "1.5 kB"), (2.4e6, "2.4 MB"), (3e9, "3 GB")]
)
def test_bytes_for_people(count, text):
    assert format_bytes(count) == text


def test_an_unknown_rate_is_not_zero():
    assert format_rate(None) == "unknown"
    assert format_rate(0.0) == "0 B/s"
    assert format_rate(20_000.0) == "20 kB/s"


@given(st.floats(min_value=1e-6, max_value=119))
def test_what_is_printed_parses_back_to_within_rounding(seconds):
    assert parse_duration_s(format_duration(seconds)) == pytest.approx(seconds, rel=0.06, abs=6e-9)
