"""Several server processes on one port: started, restarted when they die, stopped together.

The kernel deals connections out to the processes that listen on the port (SO_REUSEPORT). A worker that gives
no sign of life is killed and so replaced; what a client has loaded or unloaded in one, the others are told.
The supervisor takes no frames itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from isthmus.runtime.errors import ServiceError
from isthmus.runtime.server.relay import Relay
from isthmus.runtime.server.restarts import Restarts
from isthmus.runtime.server.worker_link import ALIVE_EVERY_S

log = logging.getLogger("isthmus.server")

# Seconds beyond its grace in which a worker that is told to stop has to be gone: for a batch that nothing can
# interrupt, the last bytes, and the end of the process.
_MARGIN_S = 5.0

# A worker's number and the port, so that a process knows that it is one.
WORKER = "ISTHMUS_SERVE_WORKER"


class StartFailedError(Exception):
    """The first worker ended, with the exit code `code`, before it was ready; it has said why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the first worker ended with exit code {code}")
        self.code = code


class Supervisor:
    """Runs workers of one command.

    Each says on its standard output, as JSON lines, when it is ready and how it has stopped.

    Attributes:
        outcomes: Frames by outcome, of all workers that have stopped by themselves.
        complete: Whether every worker answered all frames when it stopped.
        drain_s: Seconds from the order to stop to the end of the last worker.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        processes: int,
        port: int,
        grace_s: float = 5.0,
        environment: Mapping[str, str] | None = None,
        on_ready: Callable[[dict[str, Any]], None] = lambda said: None,
        on_death: Callable[[int], None] = lambda pid: None,
        restarts: Callable[[], Restarts] = Restarts,
        hung_s: float = 30.0,
        look_s: float = ALIVE_EVERY_S,
    ) -> None:
        """Make a supervisor; nothing is started yet.

        Args:
            command: Starts one worker.
            processes: How many.
            port: The port they share.
            grace_s: Seconds they have to answer what they have accepted when they are told to stop; one that
                is not gone soon after them is killed.
            environment: Theirs; None: this process's.
            on_ready: Called once, when all are ready, with what the first one said.
            on_death: Called with the process id of each that has ended.
            restarts: Makes what decides about a worker's deaths.
            hung_s: Seconds without a sign of life after which a worker is killed, and so replaced.
            look_s: How often that is looked at.
        """
        self.outcomes: Counter[str] = Counter()
        self.complete = True
        self.drain_s = 0.0
        self._stopped_s = 0.0
        self._command = tuple(command)
        self._count = processes
        self._port = port
        self._grace_s = grace_s
        self._killing: asyncio.TimerHandle | None = None
        self._environment = dict(os.environ if environment is None else environment)
        self._on_ready = on_ready
        self._on_death = on_death
        self._restarts = restarts
        self._most_silent = max(2, round(hung_s / look_s))
        self._look_s = look_s
        self._silent: dict[int, int] = {}
        self._relay = Relay()
        self._workers: dict[int, asyncio.subprocess.Process] = {}
        self._ready = [asyncio.Event() for _ in range(processes)]
        self._said: dict[str, Any] = {}
        self._stopping = asyncio.Event()

    async def run(self, signals: asyncio.Queue[int]) -> None:
        """Keep the workers running until a SIGTERM or SIGINT comes through `signals`.

        Each is passed on to the workers (SIGINT as SIGTERM), as is SIGHUP.

        Raises:
            StartFailedError: If the first worker ends before it is ready.
            ServiceError: If a worker dies again and again.
        """
        keepers = [asyncio.create_task(self._keep(0))]
        helpers = [asyncio.create_task(self._pass_on(signals))]
        try:
            # One alone first: what is wrong with the configuration is then said once.
            await self._either(keepers[0], self._ready[0])
            if not self._stopping.is_set():
                keepers += [asyncio.create_task(self._keep(number)) for number in range(1, self._count)]
                helpers.append(asyncio.create_task(self._tell_when_ready()))
            await asyncio.wait(keepers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            if not self._stopping.is_set():
                self._stop(signal.SIGTERM)
            await asyncio.wait(keepers)
            for helper in helpers:
                helper.cancel()
            if self._killing is not None:
                self._killing.cancel()
            self.drain_s = time.monotonic() - self._stopped_s
        for keeper in keepers:
            keeper.result()

    async def _tell_when_ready(self) -> None:
        for ready in self._ready:
            await ready.wait()
        self._on_ready(self._said)

    async def _either(self, keeper: asyncio.Task[None], ready: asyncio.Event) -> None:
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([keeper, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if keeper.done():
            keeper.result()

    async def _pass_on(self, signals: asyncio.Queue[int]) -> None:
        while True:
            number = await signals.get()
            if number == signal.SIGHUP:
                self._send(number)
            else:
                self._stop(signal.SIGTERM)

    def _stop(self, number: int) -> None:
        if not self._stopping.is_set():
            self._stopped_s = time.monotonic()
            self._stopping.set()
            loop = asyncio.get_running_loop()
            self._killing = loop.call_later(self._grace_s + _MARGIN_S, self._kill_the_stuck)
        self._send(number)

    def _kill_the_stuck(self) -> None:
        for number, worker in self._workers.items():
            if worker.returncode is None:
                log.error("worker %d (process %d) does not stop; killed", number, worker.pid)
                self.complete = False
                worker.kill()

    def _send(self, number: int) -> None:
        for worker in self._workers.values():
            if worker.returncode is None:
                worker.send_signal(number)

    async def _keep(self, number: int) -> None:
        restarts = self._restarts()
        while not self._stopping.is_set():
            started_s = time.monotonic()
            code, pid = await self._run(number)
            if self._stopping.is_set():
                return
            if not self._ready[0].is_set():
                raise StartFailedError(code)
            pause_s = restarts.pause_s(time.monotonic() - started_s)
            if pause_s is None:
                raise ServiceError(
                    f"worker {number} died {restarts.quick_deaths} times right after its start, last with "
                    f"{_ending(code)}; see the log above, and start the server again"
                )
            log.error(
                "worker %d (process %d) died with %s; again in %.1f s", number, pid, _ending(code), pause_s
            )
            try:
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            except asyncio.TimeoutError:
                continue

    async def _run(self, number: int) -> tuple[int, int]:
        """Run a worker to its end; return its exit code and process id."""
        worker = await asyncio.create_subprocess_exec(
            *self._command,
            env={**self._environment, WORKER: f"{number}:{self._port}"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C reaches a terminal's whole group: the workers are told by us alone, once.
            start_new_session=True,
        )
        self._workers[number] = worker
        if self._stopping.is_set():
            worker.send_signal(signal.SIGTERM)
        assert worker.stdout is not None
        listening = asyncio.create_task(self._listen(number))
        try:
            async for line in worker.stdout:
                self._hear(number, json.loads(line))
            code = await worker.wait()
        finally:
            listening.cancel()
        del self._workers[number]
        self._silent.pop(number, None)
        self._tell(self._relay.gone(number))
        self._on_death(worker.pid)
        return code, worker.pid

    async def _listen(self, number: int) -> None:
        """Kill a worker that gives no sign of life any more: its connections go to one that does."""
        worker = self._workers[number]
        # Looks are counted, not seconds: while this process stands still itself, nobody else is to blame.
        while self._silent.get(number, 0) < self._most_silent:
            await asyncio.sleep(self._look_s)
            if number in self._silent:
                self._silent[number] += 1
        log.error(
            "worker %d (process %d) gave no sign of life for %g s; killed",
            number,
            worker.pid,
            self._most_silent * self._look_s,
        )
        worker.kill()

    def _hear(self, number: int, said: dict[str, Any]) -> None:
        event = said["event"]
        if event != "stopped":
            # From the first sign on: how long a start takes is nobody's guess.
            self._silent[number] = 0
        if event == "ready":
            self._said = self._said or said
            self._ready[number].set()
            log.info("worker %d is ready (process %d)", number, self._workers[number].pid)
            self._tell([(number, order) for order in self._relay.repeated()])
        elif event == "change":
            orders, answers = self._relay.ask(number, said, [one for one in self._workers if one != number])
            self._tell([*orders, *answers])
        elif event == "changed":
            self._tell(self._relay.answered(number, said["token"], said["error"]))
        elif event == "stopped":
            self._silent.pop(number, None)
            self.outcomes.update(said["outcomes"])
            self.complete = self.complete and said["complete"]

    def _tell(self, messages: Sequence[tuple[int, dict[str, Any]]]) -> None:
        for number, message in messages:
            worker = self._workers.get(number)
            if worker is not None and worker.stdin is not None and not worker.stdin.is_closing():
                worker.stdin.write(json.dumps(message).encode() + b"\n")


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
