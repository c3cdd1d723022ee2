from __future__ import annotations

import asyncio
import sys

import pytest

from isthmus.runtime.server.event_loop import run_server


async def loop_and_result(result):
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop()).__module__.split(".")[0], result


def test_uvloop_is_used_where_it_is_installed():
    pytest.importorskip("uvloop")
    assert run_server(loop_and_result(7)) == ("uvloop", 7)


def test_without_it_asyncio_serves_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_server(loop_and_result(8)) == ("asyncio", 8)


@pytest.mark.parametrize("hidden", [False, True])
def test_an_error_comes_out(hidden, monkeypatch):
    if hidden:
        monkeypatch.setitem(sys.modules, "uvloop", None)

    async def fail():
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        run_server(fail())
