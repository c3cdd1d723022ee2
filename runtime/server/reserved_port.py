"""A port that stays one server's while none of its processes listens on it."""

from __future__ import annotations

import socket

from isthmus.runtime.errors import NetworkError


class ReservedPort:
    """A port that is held for processes which listen on it with SO_REUSEPORT."""

    def __init__(self, host: str, port: int) -> None:
        """Hold `port` of `host`; 0: any free one.

        Raises:
            NetworkError: If it is taken by others.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            # First without sharing: a port that others share already must not be joined by accident.
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind((host, port))
                port = alone.getsockname()[1]
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise NetworkError(
                f"{host}:{port}: cannot be bound: {error.strerror or error}; "
                "stop what uses it, or give another --host or --port (0 = any free one)"
            ) from None
        self.port = port

    def close(self) -> None:
        """Let it go."""
        self._socket.close()
