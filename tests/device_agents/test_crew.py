"""Tasks that live and die together."""

import asyncio

import pytest

from isthmus.device_agents.crew import Crew


async def test_the_first_failure_is_the_crews():
    crew = Crew()
    gate = asyncio.Event()

    async def fail(error):
        await gate.wait()
        raise error

    crew.start(fail(ValueError("first")))
    crew.start(fail(KeyError("second")))
    gate.set()
    with pytest.raises(ValueError, match="first"):
        await crew.failure
    await crew.dismiss()


async def test_an_end_without_failure_changes_nothing_and_dismissing_ends_the_rest():
    crew = Crew()
    ended = []

    async def short():
        ended.append("short")

    async def long():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("long")

    await crew.start(short())
    task = crew.start(long())
    await asyncio.sleep(0)
    assert not crew.failure.done()
    await crew.dismiss()
    assert task.cancelled()
    assert ended == ["short", "long"]
    assert crew.failure.cancelled()
    crew.fail(ValueError("too late"))
