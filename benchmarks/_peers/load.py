"""Load on a server: as much as its streams carry (closed loop), or at random instants (open loop)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from _peers.children import Child
from _peers.lines import Line
from isthmus.runtime.errors import BusyError, NetworkError

Open = Callable[[int], Line]

# A stretch that has seen too few answers may become so many times longer.
_LONGER = 6
# So many lines connect together.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a stretch of load came to.

    Attributes:
        frames_per_s: Answers a second.
        latency_s: Seconds of each frame.
        client_share, server_share: Processor time of this process and of the server, as shares of a core.
        late_s: How late each frame was sent, open loop; empty in the closed loop.
        refused: Frames that the server would not take.
        lost: Frames whose connection broke.
    """

    frames_per_s: float
    latency_s: NDArray[np.float64]
    client_share: float
    server_share: float
    late_s: NDArray[np.float64]
    refused: int
    lost: int


class Lines:
    """The open lines of a stretch of load; one that is lost is replaced, and its frame counted as lost."""

    def __init__(self, open_line: Open, count: int) -> None:
        self._open = open_line
        self._lines = [open_line(number) for number in range(count)]
        self.lost = 0

    async def warm(self) -> None:
        """Have an answer over every line; a few at a time, for connecting takes the server's core as well."""
        for start in range(0, len(self._lines), _AT_ONCE):
            group = self._lines[start : start + _AT_ONCE]
            await asyncio.gather(*(line.ask(start + number) for number, line in enumerate(group)))

    async def ask(self, number: int, frame: int) -> bool:
        """Ask line `number`; False if the frame got no scores because the line was lost.

        Raises:
            BusyError: If the server refuses it.
            NetworkError: If lines are lost again and again.
        """
        line = self._lines[number]
        try:
            await line.ask(frame)
        except NetworkError:
            self.lost += 1
            if self.lost > len(self._lines):
                raise
            if self._lines[number] is line:  # others may wait on the same one
                self._lines[number] = self._open(number)
                await line.close()
            return False
        return True

    async def close(self) -> None:
        """Hang up all of them."""
        for line in self._lines:
            await line.close()


class _Clocks:
    def __init__(self, server: Child) -> None:
        self._server = server
        self._server_s, self._client_s = server.cpu_s(), time.process_time()
        self._began_s = time.perf_counter()

    def shares(self) -> tuple[float, float, float]:
        elapsed_s = time.perf_counter() - self._began_s
        client, server = time.process_time() - self._client_s, self._server.cpu_s() - self._server_s
        return elapsed_s, client / elapsed_s, server / elapsed_s


async def closed_loop(open_line: Open, server: Child, *, streams: int, seconds: float) -> Taken:
    """Return what `streams` lines take that each send a frame when the one before is answered.

    Every line has had an answer before the clock starts.
    """
    lines = Lines(open_line, streams)
    stop = False
    answered: list[tuple[float, float]] = []  # when, after how long
    refused = 0

    async def device(number: int) -> None:
        nonlocal refused
        frame = number
        while not stop:
            began_s = time.perf_counter()
            try:
                if await lines.ask(number, frame):
                    ended_s = time.perf_counter()
                    answered.append((ended_s, ended_s - began_s))
            except BusyError:
                refused += 1
                await asyncio.sleep(0.01)
            frame += 1

    try:
        await lines.warm()
        devices = [asyncio.create_task(device(number)) for number in range(streams)]
        # A few batches, until frames of all streams are spread over them as they will be.
        await asyncio.sleep(0.2 * seconds)
        clocks = _Clocks(server)
        begin_s = time.perf_counter()
        counted = len(answered)
        await asyncio.sleep(seconds)
        # On a machine that something else keeps busy, a stretch may see no whole batch.
        latest_s = begin_s + _LONGER * seconds
        while len(answered) - counted < 2 * streams and time.perf_counter() < latest_s:  # noqa: ASYNC110
            await asyncio.sleep(0.1 * seconds)
        end_s = time.perf_counter()
        _, client, of_server = clocks.shares()
        stop = True
        await asyncio.gather(*devices)
    finally:
        await lines.close()
    times_s, latencies_s = (np.array(column) for column in zip(*answered, strict=True))
    return Taken(
        frames_per_s=answer_rate(times_s, begin_s, end_s),
        latency_s=latencies_s[(times_s > begin_s) & (times_s <= end_s)],
        client_share=client,
        server_share=of_server,
        late_s=np.empty(0),
        refused=refused,
        lost=lines.lost,
    )


def answer_rate(times_s: NDArray[np.float64], begin_s: float, end_s: float) -> float:
    """Return the rate of answers at the ascending `times_s` from `begin_s` to `end_s`; 0: it is unknown.

    Answers come in batches, and a stretch that cuts one off counts it for more or less time than it took. So
    the stretch is taken from the last answer before its beginning to the last one in it.
    """
    first, last = np.searchsorted(times_s, (begin_s, end_s), side="right")
    first = max(int(first), 1)
    if last <= first:
        return 0.0
    return float((last - first) / (times_s[last - 1] - times_s[first - 1]))


def poisson(rate_per_s: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Return arrival instants of a Poisson process over `seconds`."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate_per_s * seconds)
    return np.sort(rng.uniform(0.0, seconds, count))


async def open_loop(
    open_line: Open, server: Child, arrivals_s: NDArray[np.float64], *, streams: int
) -> Taken:
    """Return what frames take that arrive at `arrivals_s`, whatever became of those before.

    A frame's latency counts from when it was due, not from when this process came to send it.
    """
    lines = Lines(open_line, streams)
    latency_s: list[float] = []
    late_s: list[float] = []
    refused = 0

    async def frame(number: int, due_s: float) -> None:
        nonlocal refused
        late_s.append(time.perf_counter() - due_s)
        try:
            if await lines.ask(number % streams, number):
                latency_s.append(time.perf_counter() - due_s)
        except BusyError:
            refused += 1

    try:
        await lines.warm()
        clocks = _Clocks(server)
        began_s = time.perf_counter()
        tasks = []
        for number, arrival_s in enumerate(arrivals_s):
            due_s = began_s + float(arrival_s)
            if (pause_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(pause_s)
            tasks.append(asyncio.create_task(frame(number, due_s)))
        await asyncio.gather(*tasks)
        elapsed_s, client, of_server = clocks.shares()
    finally:
        await lines.close()
    return Taken(
        frames_per_s=len(latency_s) / elapsed_s,
        latency_s=np.array(latency_s),
        client_share=client,
        server_share=of_server,
        late_s=np.array(late_s),
        refused=refused,
        lost=lines.lost,
    )


def ideal_latency_s(
    arrivals_s: NDArray[np.float64], batch_s: Callable[[int], float], *, max_batch: int
) -> NDArray[np.float64]:
    """Return the latencies of a server that does nothing but compute: what queueing alone costs.

    Whenever it is idle it takes all who wait, up to `max_batch`, for `batch_s(rows)` seconds.
    """
    latency_s, free_s, first = np.empty(len(arrivals_s)), 0.0, 0
    while first < len(arrivals_s):
        start_s = max(free_s, float(arrivals_s[first]))
        waiting = int(np.searchsorted(arrivals_s, start_s, side="right"))
        last = min(waiting, first + max_batch)
        free_s = start_s + batch_s(last - first)
        latency_s[first:last] = free_s - arrivals_s[first:last]
        first = last
    return latency_s
