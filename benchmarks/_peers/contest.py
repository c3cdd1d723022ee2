"""One tail, the servers that host it, and the roads to them."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from _peers import servers
from _peers.children import Child, Cores
from _peers.lines import HttpLine, Line, latent_calls, latent_line, payload_line
from _peers.offline import Offline
from _peers.places import environment
from _peers.tails import Tail
from isthmus.runtime.errors import BackendError, GateError, NetworkError

PEERS = ("triton", "mlserver", "litserve")
# Largest difference of a score from the golden one, as a share of their range: other versions of ONNX
# Runtime add in another order.
_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """How our server computes, as flags of `isthmus serve` say, and the cores of every server."""

    backend: str
    provider: str
    precision: str
    max_batch: int
    threads: int
    cores: Cores | None


T = TypeVar("T")
# A server that crashes so often under one load is given up.
_MOST_CRASHES = 3
# What the kernel says of a process comes a little after what it does to its sockets.
_KNOWN_AFTER_S = 1.0


class Contest:
    """Every server that hosts `tail`; `open` gives lines to each of them by name.

    Attributes:
        roads: Names of the contenders that are left.
        crashes: How often each peer's server has crashed; one that did so too often under one load is left
            out from there on.
    """

    def __init__(self, tail: Tail, how: Computing, folder: Path, stack: contextlib.ExitStack) -> None:
        """Start them, and what computes offline; `stack` ends them."""
        self.tail = tail
        queue = max(256, how.max_batch)
        flags = ["--backend", how.backend, "--provider", how.provider, "--precision", how.precision]
        flags += ["--max-batch", how.max_batch, "--queue", queue, "--threads", how.threads]
        self._children = {"ours": servers.ours(tail.bundle, *flags, cores=how.cores)}
        stack.callback(self._children["ours"].end)
        self._offline: dict[str, Offline] = {}
        settings = (tail.bundle.root, how.threads, how.backend, how.provider, how.max_batch)
        self._compute(stack, "ours", Offline(("bundle", *settings), cores=how.cores))
        self.crashes = dict.fromkeys(PEERS, 0)
        self._start: dict[str, Callable[[], Child]] = {
            "triton": lambda: servers.triton(
                tail.bundle, _new(folder), max_batch=how.max_batch, cores=how.cores
            ),
            "mlserver": lambda: servers.mlserver(
                tail.bundle, _new(folder), max_batch=how.max_batch, cores=how.cores
            ),
            "litserve": lambda: servers.litserve(tail.onnx, max_batch=how.max_batch, cores=how.cores),
        }
        for name in PEERS:
            place = environment(name)
            # They compute on the CPU as they are set up here; against a GPU that would be no contest.
            if place is None or how.provider == "cuda":
                continue
            self._children[name] = self._start[name]()
            stack.callback(self._end, name)
            given = ("onnx", tail.onnx, how.threads)
            self._compute(stack, name, Offline(given, python=place / "bin/python", cores=how.cores))

    def _end(self, name: str) -> None:
        if name in self._children:
            self._children[name].end()

    def _compute(self, stack: contextlib.ExitStack, name: str, offline: Offline) -> None:
        self._offline[name] = offline
        stack.callback(offline.end)

    @property
    def roads(self) -> tuple[str, ...]:
        """Names of the contenders; "ours" and "ours_latent" are one server."""
        return ("ours", "ours_latent", *(name for name in self._children if name != "ours"))

    def server(self, road: str) -> Child:
        """Return where `road` leads."""
        return self._children[road.split("_")[0]]

    def offline(self, name: str) -> Offline:
        """Return what computes as the server `name` does, without serving."""
        return self._offline[name]

    def opener(self, road: str, points: tuple[int, ...] | None = None) -> Callable[[int], Line]:
        """Return what opens lines to `road`; `points`: the operating points they take in turn, of ours."""
        server, tail = self.server(road), self.tail
        used = points or (len(tail.payloads) - 1,)
        if road == "ours":
            return lambda number: payload_line(server.address, tail, used, number)
        if road == "mlserver":
            return lambda number: latent_calls(server.address, tail)
        if road == "litserve":
            return lambda number: HttpLine(server.port, tail)
        return lambda number: latent_line(server.address, tail)

    @contextlib.contextmanager
    def turn(self, road: str) -> Iterator[Child]:
        """Let the servers of other makers stand still while `road` has its turn; yield its server."""
        mine = self.server(road)
        with contextlib.ExitStack() as others:
            for name, child in self._children.items():
                if child is not mine and name != "ours":
                    others.enter_context(child.paused())
            yield mine

    async def loaded(self, road: str, load: Callable[[Child], Awaitable[T]]) -> T | None:
        """Return what `load` does in a turn of `road`; None: its server crashes under it, and is given up.

        A peer that crashes is started again and has another turn; `crashes` counts that.

        Raises:
            BackendError: If connections are lost though the server runs, or if it is ours.
        """
        name = road.split("_")[0]
        for _ in range(_MOST_CRASHES):
            try:
                with self.turn(road) as server:
                    return await load(server)
            except NetworkError as error:
                await asyncio.sleep(_KNOWN_AFTER_S)
                code = self._children[name].exit_code
                if code is None or name == "ours":
                    raise BackendError(f"{road}: {error}; exit code of its server: {code}") from None
            self._children[name].end()
            self._children[name] = self._start[name]()
            self.crashes[name] += 1
        self._children.pop(name).end()
        return None

    async def check(self) -> None:
        """Compare an answer of every contender to every latent with the golden one.

        Raises:
            GateError: If one differs.
        """
        expected = self.tail.scores_nc
        span = float(expected.max() - expected.min())
        for road in self.roads:
            line = self.opener(road)(0)
            found: list[Any] = [await line.ask(frame) for frame in range(len(expected))]
            await asyncio.wait_for(line.close(), 10)
            worst = float(np.abs(np.concatenate(found) - expected).max()) / span
            if not worst <= _TOLERANCE:
                raise GateError(f"{road}: scores differ from the golden ones by {worst:.2g} of their range")


def _new(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))
