"""The thread that computes: what happens when it cannot go on."""

import asyncio

from isthmus.runtime.server import accelerator as accelerator_module
from isthmus.runtime.server.accelerator import Accelerator


class Lane:
    """Always has work, and no memory to take it."""

    def waits(self):
        return True

    def expected_s(self):
        return 1.0

    def take(self):
        raise MemoryError


async def test_a_server_whose_thread_cannot_go_on_ends(monkeypatch, caplog):
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(accelerator_module, "_end_process", lambda: loop.call_soon_threadsafe(ended.set))
    accelerator = Accelerator()
    accelerator.attach(Lane())
    accelerator.start(on_loop=False)
    await asyncio.wait_for(ended.wait(), 20)
    accelerator.close()
    assert "the thread that computes cannot go on" in caplog.text
    assert "MemoryError" in caplog.text


async def test_a_thread_that_could_not_be_started_is_tried_again(monkeypatch):
    starts = []

    class Thread:
        def __init__(self, **_):
            starts.append(self)

        def start(self):
            if len(starts) == 1:
                raise RuntimeError("can't start new thread")

    monkeypatch.setattr(accelerator_module.threading, "Thread", Thread)
    accelerator = Accelerator()
    accelerator.attach(Lane())
    for _ in range(3):
        try:
            accelerator.start(on_loop=False)
        except RuntimeError:
            assert len(starts) == 1
    assert len(starts) == 2
