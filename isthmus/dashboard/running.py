"""Run the dashboard in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from isthmus.dashboard.app import Dashboard
from isthmus.dashboard.settings import DashboardSettings
from isthmus.runtime.errors import NetworkError

# Pages that are still there when it ends get so long to be told.
_FAREWELL_S = 1


class _Server(uvicorn.Server):
    """Ends at the first signal without a fuss: the exit code stays ours, pages are let go at once."""

    dashboard: Dashboard

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.dashboard.collector.release()
        await super().shutdown(sockets)


def serve_dashboard(settings: DashboardSettings, *, on_ready: Callable[[int], None]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        settings: What it is told.
        on_ready: Called with the port when browsers are taken.

    Raises:
        InputError: If a file cannot be used.
        NetworkError: If the address cannot be bound.
    """
    _raise_file_limit()
    listener = _listen(settings.host, settings.port)
    port = listener.getsockname()[1]

    async def run() -> None:
        dashboard = Dashboard(settings, on_ready=lambda: on_ready(port))
        server = _Server(_config(dashboard, settings))
        server.dashboard = dashboard
        await server.serve(sockets=[listener])

    try:
        asyncio.run(run())
    finally:
        listener.close()


def _config(dashboard: Dashboard, settings: DashboardSettings) -> uvicorn.Config:
    return uvicorn.Config(
        dashboard.asgi,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_FAREWELL_S,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise NetworkError(f"{host}:{port}: {error.strerror or error}; give another --host") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise NetworkError(
            f"{host}:{port}: {error.strerror or error}; give another --port (0 = any free one)"
        ) from None
    return listener


def _raise_file_limit() -> None:
    """Let this process open as many files as it may: every log that is followed is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
