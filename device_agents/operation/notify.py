"""Word to systemd: ready, alive, stopping; nothing at all when no service manager asks for it.

The protocol is one datagram per message (`man 3 sd_notify`), so no library is needed.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """Tells the service manager that started this process how it fares; without one it does nothing.

    Args:
        environ: Where NOTIFY_SOCKET stands; None: this process's environment.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if address[:1] in ("/", "@"):
            # "@" stands for the NUL byte of the abstract namespace.
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self) -> None:
        """Say that the service has started."""
        self._send("READY=1")

    def alive(self, status: str) -> None:
        """Feed the watchdog, with one line for `systemctl status`."""
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the service ends, and say nothing more."""
        self._send("STOPPING=1")
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is not None:
            # A manager that does not listen will notice the silence by itself.
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(), self._address)
