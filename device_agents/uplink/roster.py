"""The servers an agent may use, in the order of preference, and when each may be tried.

Pure: time is an argument. Decides which server is next; knows no connection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isthmus.runtime.session import FullJitter


@dataclass(slots=True, kw_only=True, eq=False)
class Server:
    """One server.

    Attributes:
        address: HOST:PORT.
        rank: Its place in the order; 0 is preferred.
        backoff: Pauses between attempts on it.
        not_before_s: No attempt before this instant.
        gentle: It is not ours, and must not be pinged often.
        refusal: What it refused for good when it was last tried; None: nothing.
        single_calls: Its stream, if it has one, is of no use.
    """

    address: str
    rank: int
    backoff: FullJitter
    not_before_s: float = -math.inf
    gentle: bool = False
    refusal: Exception | None = None
    single_calls: bool = False


class Roster:
    """The servers of one agent.

    Args:
        addresses: HOST:PORT each, the preferred first.
        make_backoff: Makes the pauses of one server.
    """

    def __init__(self, addresses: Sequence[str], make_backoff: Callable[[], FullJitter]) -> None:
        assert addresses
        self._servers = [
            Server(address=address, rank=rank, backoff=make_backoff())
            for rank, address in enumerate(addresses)
        ]

    def __len__(self) -> int:
        return len(self._servers)

    def choose(self, now_s: float) -> tuple[Server, float]:
        """Return the server to try next and the seconds to wait before.

        Of those that may be tried now, the preferred; if none may, the one that may first.
        """
        for server in self._servers:
            if server.not_before_s <= now_s:
                return server, 0.0
        soonest = min(self._servers, key=lambda server: server.not_before_s)
        return soonest, soonest.not_before_s - now_s

    def failed(
        self,
        server: Server,
        now_s: float,
        refusal: Exception | None = None,
        *,
        retry_after_s: float = 0.0,
    ) -> None:
        """Note that `server` could not be used or was lost.

        Args:
            server: The server.
            now_s: When.
            refusal: What another attempt cannot cure; None: it may.
            retry_after_s: Seconds for which the server itself wants to be left alone.
        """
        server.refusal = refusal
        server.not_before_s = now_s + max(server.backoff.next_s(), retry_after_s)

    def answered(self, server: Server) -> None:
        """Note that `server` answered a frame."""
        server.backoff.reset()

    def welcome(self, server: Server) -> None:
        """Let `server` be tried at once: it has shown that it is ready."""
        server.not_before_s = -math.inf
        server.backoff.reset()

    def preferred_to(self, server: Server) -> list[Server]:
        """Return the servers that come before `server` in the order."""
        return self._servers[: server.rank]

    def unanimous(self) -> Exception | None:
        """Return the preferred server's refusal if every server refuses; otherwise None."""
        refusals = [server.refusal for server in self._servers]
        return refusals[0] if all(refusal is not None for refusal in refusals) else None
