"""What the models of one process share: the device, the threads that decode, and who counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from isthmus.runtime.server.accelerator import Accelerator
from isthmus.runtime.server.records import Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Make it on the event loop.

    Attributes:
        decoders: Threads for payloads that take long to decode.
        accelerator: The device on which tails compute.
        recorders: Are told of every frame and batch.
        loop: The event loop on which frames come and go.
        clock: Gives monotonic seconds.
    """

    decoders: Executor
    accelerator: Accelerator = field(default_factory=Accelerator)
    recorders: Sequence[Recorder] = ()
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def open(cls, threads: int, recorders: Sequence[Recorder] = ()) -> Workers:
        """Return workers with `threads` decoders, each started when it is first needed."""
        pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="decode")
        return cls(decoders=pool, recorders=recorders)

    def close(self) -> None:
        """End the threads as soon as they are done with what they do."""
        self.accelerator.close()
        self.decoders.shutdown(wait=False, cancel_futures=True)
