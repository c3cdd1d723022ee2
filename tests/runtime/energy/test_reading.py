"""What external meters say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.energy.reading import UNITS, Reading, parse_reading
from isthmus.runtime.errors import InputError


@pytest.mark.parametrize(
    ("text", "options", "reading"),
    [
        ("3.42 W", {}, Reading(3.42, False)),
        ("3420mW\n", {}, Reading(3.42, False)),
        (" 3.42 ", {}, Reading(3.42, False)),
        ("812 J", {}, Reading(812.0, True)),
        ("0.5 Wh", {}, Reading(1800.0, True)),
        ("2", {"unit": "kWh"}, Reading(7.2e6, True)),
        ("1e3 mJ", {}, Reading(1.0, True)),
        ('{"apower": 4.5}', {"key": "apower"}, Reading(4.5, False)),
        ('{"ENERGY":{"Power":7,"Total":0.1}}', {"key": "ENERGY.Power"}, Reading(7.0, False)),
        ('{"ENERGY":{"Total":0.001}}', {"key": "ENERGY.Total", "unit": "kWh"}, Reading(3600.0, True)),
        ('{"p": "4.5 W"}', {"key": "p"}, Reading(4.5, False)),
    ],
)
def test_readings(text, options, reading):
    found = parse_reading(text, **options)
    assert found.counts == reading.counts
    assert found.value == pytest.approx(reading.value)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "'' is no number"),
        ("error: no device", {}, "'error: no device' is no number"),
        ("3.4 V", {}, "unit 'V' is not known"),
        ("-3 W", {}, "below 0"),
        ("1e999", {}, "infinite"),
        ('{"power": 3}', {}, "say which number is meant"),
        ('{"power": 3}', {"key": "watts"}, "has no 'watts'"),
        ("3 W", {"key": "power"}, "'3 W' has no 'power'|no JSON"),
        ('{"power": [3]}', {"key": "power"}, "is no number"),
        ('{"power": true}', {"key": "power"}, "'true' is no number"),
    ],
)
def test_what_is_no_reading(text, options, message):
    with pytest.raises(InputError, match=message):
        parse_reading(text, **options)


@given(st.text(max_size=60), st.sampled_from(["", "a", "a.b"]))
def test_whatever_a_meter_says_is_a_reading_or_one_line(text, key):
    try:
        said = parse_reading(text, key=key).value
    except InputError as error:
        said = str(error)
    assert "\n" not in said if isinstance(said, str) else said >= 0


@given(st.floats(0, 1e6), st.sampled_from(UNITS))
def test_a_printed_number_comes_back(value, unit):
    reading = parse_reading(f"{value:.6f} {unit}")
    assert reading.value == pytest.approx(parse_reading("1", unit=unit).value * value, rel=1e-6, abs=5e-1)
