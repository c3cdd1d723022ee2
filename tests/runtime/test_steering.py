"""A real socket file; the process that is steered is this one."""

import asyncio
import os
import socket
import stat

import pytest

from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.steering import Knob, SteeringSocket, steer


class Lamp:
    """Something with one knob."""

    def __init__(self, path):
        self.wished = []
        knob = Knob(name="power_w", low=1.0, high=60.0, read=self.read, write=self.wished.append)
        self.socket = SteeringSocket(path, kind="agent", name="lamp", knobs=[knob])

    def read(self):
        value = self.wished[-1] if self.wished else None
        return (40.0 if value is None else value), value is not None


@pytest.fixture
async def lamp(tmp_path):
    lamp = Lamp(tmp_path / "lamp.sock")
    await lamp.socket.start()
    yield lamp
    await lamp.socket.close()


async def test_a_knob_is_read_set_and_set_back(lamp, tmp_path):
    path = tmp_path / "lamp.sock"
    said = await steer(path)
    assert (said.kind, said.name) == ("agent", "lamp")
    (knob,) = said.knobs
    assert (knob.name, knob.value, knob.is_set, knob.low, knob.high) == ("power_w", 40.0, False, 1.0, 60.0)
    (knob,) = (await steer(path, {"power_w": 7.5})).knobs
    assert (knob.value, knob.is_set) == (7.5, True)
    (knob,) = (await steer(path, {"power_w": None})).knobs
    assert (knob.value, knob.is_set) == (40.0, False)
    assert lamp.wished == [7.5, None]


@pytest.mark.parametrize("value", [0.5, 61.0, 1e300])
async def test_a_value_out_of_bounds_is_refused(lamp, tmp_path, value):
    with pytest.raises(InputError, match="give 1 to 60"):
        await steer(tmp_path / "lamp.sock", {"power_w": value})
    assert lamp.wished == []


async def test_one_wrong_wish_spoils_the_others(lamp, tmp_path):
    with pytest.raises(InputError, match="'colour' cannot be set here; known are power_w"):
        await steer(tmp_path / "lamp.sock", {"power_w": 5.0, "colour": 1.0})
    assert lamp.wished == []


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"set": {"power_w": "hot"}}', b'{"sit": {}}', b"\xff"])
async def test_what_is_no_wish_is_answered_with_an_error(lamp, line):
    assert b'"error"' in lamp.socket.answer(line)


async def test_a_line_without_end_is_cut_off(lamp, tmp_path):
    reader, writer = await asyncio.open_unix_connection(tmp_path / "lamp.sock")
    writer.write(b"x" * 100_000)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert (await steer(tmp_path / "lamp.sock")).name == "lamp"


async def test_only_its_owner_may_open_it(lamp, tmp_path):
    assert stat.S_IMODE((tmp_path / "lamp.sock").stat().st_mode) == 0o600


async def test_the_socket_of_a_dead_process_is_replaced_and_a_live_one_is_not(tmp_path):
    path = tmp_path / "lamp.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(os.fspath(path))
    lamp = Lamp(path)
    await lamp.socket.start()
    with pytest.raises(InputError, match="another process listens there"):
        await Lamp(path).socket.start()
    await lamp.socket.close()
    assert not path.exists()


async def test_a_file_is_not_replaced(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(InputError, match="there is something else"):
        await Lamp(path).socket.start()
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "says"), [("x" * 120, "longer than a socket's name may be"), ("no/such/x", "No such file")]
)
async def test_a_path_that_cannot_be_a_socket(tmp_path, name, says):
    with pytest.raises(InputError, match=says):
        await Lamp(tmp_path / name).socket.start()


async def test_nobody_there(tmp_path):
    with pytest.raises(NetworkError, match="No such file"):
        await steer(tmp_path / "gone.sock")
