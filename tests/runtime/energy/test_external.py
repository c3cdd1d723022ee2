"""External meters: by command, over MQTT, and on a serial line that is a pseudo-terminal."""

import os
import sys

import pytest

from isthmus.runtime.energy import open_meter
from isthmus.runtime.energy.external import ReadingSum
from isthmus.runtime.errors import InputError, MissingExtraError


def test_watts_are_integrated_from_text_to_text(clock):
    said = ReadingSum("plug", "key=p", clock=clock)
    assert said.energy_j() is None
    assert said.trouble == "plug: has said nothing yet"
    said.take('{"p": 4}')
    clock.pass_s(10.0)
    said.take('{"p": 6}')
    assert said.energy_j() == pytest.approx(50.0)
    clock.pass_s(20.0)
    assert said.energy_j() == pytest.approx(50.0)  # nothing new was said
    clock.pass_s(60.0)
    assert said.energy_j() is None
    assert said.trouble == "plug: has said nothing for 80 s"


def test_counted_joules_are_subtracted_from_the_first(clock):
    said = ReadingSum("plug", "unit=kWh", clock=clock)
    for text in ("12.5", "12.501", "12.503"):
        said.take(text)
    assert said.energy_j() == pytest.approx(10_800.0)
    said.take("0.0")
    assert said.energy_j() is None
    assert "its counter was set back" in said.trouble


def test_one_bad_text_is_unknown_until_the_next_good_one(clock):
    said = ReadingSum("plug", "", clock=clock)
    said.take("4 W")
    clock.pass_s(1.0)
    said.take("overload")
    assert said.energy_j() is None
    assert said.trouble.startswith("plug: 'overload' is no number")
    clock.pass_s(1.0)
    said.take("4 W")
    assert said.energy_j() == pytest.approx(8.0)


def test_watts_and_joules_by_turns_are_refused(clock):
    said = ReadingSum("plug", "", clock=clock)
    said.take("4 W")
    said.take("4 J")
    assert said.energy_j() is None
    assert "by turns" in said.trouble


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("keys=p", "option 'keys' is unknown"),
        ("unit=volt", "unit 'volt' is not known"),
        ("power", "not of the form"),
    ],
)
def test_wrong_options(clock, query, message):
    with pytest.raises(InputError, match=message):
        ReadingSum("plug", query, clock=clock)


def command(code):
    return f"command:{sys.executable} -c '{code}'"


def test_a_command_that_prints_joules(tmp_path, clock):
    file = tmp_path / "joules"
    file.write_text("100 J")
    meter = open_meter(command(f'print(open("{file}").read())'), clock=clock)
    assert (meter.source, meter.measured, meter.read_j()) == ("command", True, 0.0)
    file.write_text("112.5 J")
    assert meter.read_j() == pytest.approx(12.5)
    file.unlink()
    assert meter.read_j() is None
    assert "FileNotFoundError" in meter.trouble


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("command:", "no command"),
        ("command:/no/such/tool", "/no/such/tool: No such file or directory; try it in a shell"),
        ("command:'unfinished", "No closing quotation"),
        (command('print("hot")'), "'hot' is no number"),
        (command("raise SystemExit(3)"), "exit code 3"),
    ],
)
def test_commands_that_cannot_be_used_are_refused_at_once(spec, message):
    with pytest.raises(InputError, match=message):
        open_meter(spec)


@pytest.fixture
def line():
    """Both ends of a serial line: our end to write to, and the device's name."""
    pytest.importorskip("serial", reason="the extra 'energy' is not installed")
    ours, theirs = os.openpty()
    yield ours, os.ttyname(theirs)
    os.close(theirs)
    os.close(ours)


def test_a_serial_line_says_watts_a_line(line, clock, wait_until):
    ours, device = line
    meter = open_meter(f"serial:{device}?baud=9600&key=w", clock=clock)
    try:
        assert meter.source == "serial"
        assert meter.read_j() is None
        # What is left of a line that began before anybody listened must not count.
        os.write(ours, b'": 99}\n{"w": 2.0}\n')
        wait_until(lambda: meter.read_j() == 0.0)
        clock.pass_s(3.0)
        os.write(ours, b'{"w": 4.0}\r\n')
        wait_until(lambda: meter.read_j() == pytest.approx(9.0))
        os.write(ours, b"brown-out\n")
        wait_until(lambda: meter.read_j() is None)
        assert "'brown-out' is no JSON" in meter.trouble
    finally:
        meter.close()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("serial:/dev/no-such-line", "No such file or directory.*group 'dialout'"),
        ("serial:/dev/null?baud=fast", "baud 'fast': give 50 to 4000000"),
        ("serial:/dev/null?speed=9600", "option 'speed' is unknown"),
    ],
)
def test_serial_lines_that_cannot_be_used(spec, message):
    with pytest.raises(InputError, match=message):
        open_meter(spec)


def test_a_serial_line_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(MissingExtraError, match=r"isthmus\[energy\]"):
        open_meter("serial:/dev/null")
