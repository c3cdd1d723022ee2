import asyncio

import pytest

from isthmus.runtime.errors import BackendError, BundleError, UnknownModelError
from isthmus.runtime.server.worker_link import WorkerLink


class Ends:
    """A link whose supervisor is a list and whose server does as it is told, or raises `fault`."""

    def __init__(self):
        self.said, self.made, self.fault = [], [], None
        self.answered = asyncio.Event()
        self.link = WorkerLink(self._say, self._change)

    def _say(self, message):
        self.said.append(message)
        self.answered.set()

    async def _change(self, change, model):
        if self.fault is not None:
            raise self.fault
        self.made.append((change, model))

    async def answer(self):
        await asyncio.wait_for(self.answered.wait(), 20)
        return self.said.pop()


@pytest.fixture
async def ends():
    return Ends()


async def test_signs_of_life_go_on_until_they_are_stopped(ends):
    living = asyncio.create_task(ends.link.live())
    assert await ends.answer() == {"event": "alive"}
    living.cancel()


async def test_a_change_made_here_is_announced_and_waited_for(ends):
    telling = asyncio.create_task(ends.link.announce("load", "m"))
    asked = await ends.answer()
    assert (asked["event"], asked["change"], asked["model"]) == ("change", "load", "m")
    assert not telling.done()
    ends.link.hear({"told": "of something else", "errors": ["x"]})
    ends.link.hear({"told": asked["token"], "errors": []})
    await asyncio.wait_for(telling, 20)


async def test_what_failed_elsewhere_is_this_caller_s_error(ends):
    telling = asyncio.create_task(ends.link.announce("load", "m"))
    asked = await ends.answer()
    ends.link.hear({"told": asked["token"], "errors": ["process 1: no memory"]})
    with pytest.raises(BackendError, match=r"'m': load is done in one .* not in all: process 1: no memory"):
        await asyncio.wait_for(telling, 20)


async def test_an_order_is_obeyed_and_answered(ends):
    ends.link.hear({"change": "unload", "model": "m", "token": "3"})
    assert await ends.answer() == {"event": "changed", "token": "3", "error": ""}
    assert ends.made == [("unload", "m")]


@pytest.mark.parametrize(
    ("change", "fault", "error"),
    [
        ("load", BundleError("broken"), "broken"),
        ("load", UnknownModelError("unknown model"), "unknown model"),
        ("unload", UnknownModelError("unknown model"), ""),  # it is gone: that was wanted
    ],
)
async def test_an_order_that_cannot_be_obeyed_says_why(ends, change, fault, error):
    ends.fault = fault
    ends.link.hear({"change": change, "model": "m", "token": "3"})
    assert await ends.answer() == {"event": "changed", "token": "3", "error": error}
