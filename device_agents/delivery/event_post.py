"""Events to a dashboard over HTTP: newline JSON, a batch at a time, from a thread of its own.

Decides what happens while the dashboard is away: events wait in a buffer of bounded size, the oldest go first
when it is full, and no frame ever waits. Every batch begins with the run's first event, so that a dashboard
that was restarted knows at once who speaks.
"""

from __future__ import annotations

import http.client
import secrets
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec

from isthmus.runtime.errors import InputError, IsthmusError
from isthmus.runtime.events import Event, RunEvent
from isthmus.runtime.wire.tls import BEARER, is_loopback, read_token

_MOST_BYTES = 4 << 20
# The dashboard takes no more than this at once.
_BATCH_BYTES = 512 << 10
_EVERY_S = 0.5
_LEAST_S, _MOST_S = 0.2, 30.0
_LONGEST_PAUSE_S = 8.0
_TIMEOUT_S = 5.0
# A run that ends does not wait longer for its last batch.
_FAREWELL_S = 2.0
_LONGEST_ANSWER = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """Where events go.

    Attributes:
        url: `http://HOST:PORT` or `https://HOST:PORT`.
        name: What the device calls itself there.
        token_file: File with the bearer token of the dashboard.
        authority: PEM file of the authority that vouches for it; None: those this system trusts.

    Raises:
        InputError: If the address is of another form, or the token would cross a network in plain text.
    """

    url: str
    name: str
    token_file: Path | None = None
    authority: Path | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
            good = good and parts.path in ("", "/") and not parts.query and not parts.username
        except ValueError:  # a port that is no number
            good = False
        if not good:
            raise InputError(
                f"events_to {self.url!r}: give http://HOST:PORT or https://HOST:PORT of 'isthmus dashboard'"
            )
        if parts.scheme == "http" and self.token_file is not None and not is_loopback(parts.hostname or ""):
            raise InputError(
                f"events_to {self.url}: in plain text anybody on the way can read the token; give the "
                "dashboard a certificate and use https://"
            )
        self.token()

    def token(self) -> str | None:
        """Return the token.

        Raises:
            InputError: If its file cannot be used.
        """
        return None if self.token_file is None else read_token(self.token_file)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return a connection that is opened with its first request.

        Raises:
            OSError: If the authority's file cannot be read.
        """
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        context = ssl.create_default_context(cafile=None if self.authority is None else str(self.authority))
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=context)


class EventPost:
    """Sends the events of one run; takes them as an `EventLog` does.

    Args:
        dashboard: Where they go.
        note: Takes one line when the dashboard cannot be reached, and when it can again; on any thread.

    Attributes:
        lost: Events that no dashboard took, because the buffer was full or the run ended.
    """

    def __init__(self, dashboard: Dashboard, *, note: Callable[[str], None]) -> None:
        self.lost = 0
        self._dashboard = dashboard
        self._note = note
        self._encode = msgspec.json.Encoder().encode
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._first = b""
        self._every_s = _EVERY_S
        self._trouble = ""
        self._run_id = secrets.token_hex(8)
        self._connection: http.client.HTTPConnection | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="event-post", daemon=True)
        self._thread.start()

    def write(self, event: Event) -> None:
        """Put one event into the buffer."""
        line = self._encode(event) + b"\n"
        if isinstance(event, RunEvent):
            self._first = line
            return
        with self._lock:
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            while self._waiting_bytes > _MOST_BYTES:
                self._waiting_bytes -= len(self._waiting.popleft())
                self.lost += 1

    def close(self) -> None:
        """Send what is left, for at most a few seconds."""
        self._closing.set()
        self._thread.join(_FAREWELL_S + 1.0)
        with self._lock:
            self.lost += len(self._waiting)
            self._waiting.clear()

    def _work(self) -> None:
        pause_s = self._every_s
        while not self._closing.wait(pause_s):
            pause_s = self._every_s if self._send() else min(_LONGEST_PAUSE_S, 2 * max(pause_s, _EVERY_S))
        give_up_s = time.monotonic() + _FAREWELL_S
        while self._waiting and time.monotonic() < give_up_s and self._send(timeout_s=_FAREWELL_S):
            pass
        if self._connection is not None:
            self._connection.close()

    def _send(self, timeout_s: float = _TIMEOUT_S) -> bool:
        """Send one batch; what was not taken goes back to the front of the buffer."""
        batch = self._take()
        try:
            self._post(self._first + b"".join(batch), timeout_s)
        except (OSError, http.client.HTTPException, IsthmusError) as error:
            self._put_back(batch)
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._say(getattr(error, "strerror", None) or str(error) or type(error).__name__)
            return False
        self._say("")
        return True

    def _post(self, body: bytes, timeout_s: float) -> None:
        if self._connection is None:
            self._connection = self._dashboard.connection(timeout_s)
        headers = {
            "Content-Type": "application/x-ndjson",
            "Isthmus-Run": self._run_id,
            "Isthmus-Now-S": f"{time.monotonic():.6f}",
        }
        token = self._dashboard.token()
        if token is not None:
            headers["Authorization"] = BEARER + token
        self._connection.request("POST", f"/api/events/{quote(self._dashboard.name)}", body, headers)
        answer = self._connection.getresponse()
        said = answer.read(_LONGEST_ANSWER)
        if answer.status != 200:
            raise OSError(said.decode(errors="replace").strip() or f"status {answer.status}")
        try:
            wish = msgspec.json.decode(said, type=_Answer)
        except msgspec.DecodeError:
            raise OSError("it is no dashboard of Isthmus") from None
        self._every_s = min(_MOST_S, max(_LEAST_S, wish.every_s))

    def _take(self) -> list[bytes]:
        batch, size = [], 0
        with self._lock:
            while self._waiting and size + len(self._waiting[0]) <= _BATCH_BYTES:
                line = self._waiting.popleft()
                size += len(line)
                batch.append(line)
            self._waiting_bytes -= size
        return batch

    def _put_back(self, batch: list[bytes]) -> None:
        with self._lock:
            self._waiting.extendleft(reversed(batch))
            self._waiting_bytes += sum(map(len, batch))

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            what = f"{trouble}; the run goes on, events are kept" if trouble else "takes events again"
            self._note(f"dashboard {self._dashboard.url}: {what}")


class _Answer(msgspec.Struct):
    every_s: float
