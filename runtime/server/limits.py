"""How much one client may have at once: streams, and frames in flight over all of them.

Pure: no clock, no gRPC. A client that asks for more is told to come back, so that others are served
meanwhile; what is in use is forgotten with its last stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.runtime.errors import BusyError


@dataclass(slots=True)
class _Use:
    streams: int = 0
    frames: int = 0


class ClientLimits:
    """Counts what each client has.

    Args:
        streams: Most streams of one client.
        credit: Most frames of one client in flight.
    """

    def __init__(self, *, streams: int, credit: int) -> None:
        self._most_streams = streams
        self._credit = credit
        self._used: dict[str, _Use] = {}

    def __len__(self) -> int:
        """Return how many clients have anything."""
        return len(self._used)

    def open_stream(self, client: str) -> None:
        """Count one more stream.

        Raises:
            BusyError: If the client has as many as it may.
        """
        use = self._used.setdefault(client, _Use())
        if use.streams >= self._most_streams:
            raise BusyError(
                f"client {client} has {use.streams} streams, as many as it may; close one, or try again later"
            )
        use.streams += 1

    def close_stream(self, client: str) -> None:
        """Count one stream less."""
        self._used[client].streams -= 1
        self._forget_idle(client)

    def take(self, client: str) -> None:
        """Count one more frame in flight.

        Raises:
            BusyError: If the client has as many as it may.
        """
        use = self._used.setdefault(client, _Use())
        if use.frames >= self._credit:
            raise BusyError(
                f"client {client} has {use.frames} frames in flight, all it may; wait for answers"
            )
        use.frames += 1

    def give(self, client: str, frames: int = 1) -> None:
        """Count `frames` less in flight."""
        self._used[client].frames -= frames
        self._forget_idle(client)

    def _forget_idle(self, client: str) -> None:
        use = self._used[client]
        assert use.streams >= 0
        assert use.frames >= 0
        if not use.streams and not use.frames:
            del self._used[client]
