"""The dashboard's pages and interfaces over HTTP.

Decides what is served under which address, and how large a request may be. Who may come is `gate`'s choice.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from isthmus.dashboard.collector import Collector
from isthmus.dashboard.gate import Gate, rights_of
from isthmus.dashboard.settings import DashboardSettings
from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.events import Event

LARGEST_POST = 1 << 20
_LARGEST_WISH = 4096
_SLOWEST_POST_S = 10.0
_MOST_PAGES = 64
# So many posts a second are taken however large the fleet; a large one is asked to post less often.
_POSTS_PER_S = 250.0
_POST_EVERY_S = 0.5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_RUN_ID = re.compile(r"[0-9a-f]{8,64}")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(Event).decode


class _RefusedError(Exception):
    """A request that is answered with one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.response = PlainTextResponse(line + "\n", status)


class Dashboard:
    """The application.

    Args:
        settings: What it was told.
        on_ready: Called when it takes requests.

    Attributes:
        asgi: What a web server runs.
        collector: What it knows.
    """

    def __init__(self, settings: DashboardSettings, *, on_ready: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._pages = 0
        self._files = _read_static()
        self.collector = Collector(settings)
        self.asgi = Starlette(
            routes=[
                Route("/", self._page),
                Route("/static/{name}", self._static),
                Route("/api/access", self._access),
                Route("/api/stream", self._stream),
                Route("/api/devices/{key:path}", self._device),
                Route("/api/events/{name}", self._events, methods=["POST"]),
                Route("/api/controls/{number:int}", self._control, methods=["POST"]),
            ],
            middleware=[Middleware(Gate, settings=settings)],
            exception_handlers={_RefusedError: _refused},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self.collector.start()
        self._on_ready()
        try:
            yield
        finally:
            await self.collector.stop()

    async def _page(self, _request: Request) -> Response:
        return self._file("index.html")

    async def _static(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    async def _access(self, request: Request) -> Response:
        rights = rights_of(request)
        return _json(
            {"read": rights.read, "steer": rights.steer, "token": self._settings.token_file is not None}
        )

    async def _stream(self, request: Request) -> Response:
        _check_reader(request)
        if self._pages >= _MOST_PAGES:
            raise _RefusedError(503, f"{_MOST_PAGES} pages are open already; close one")
        return StreamingResponse(self._messages(), media_type="text/event-stream")

    async def _messages(self) -> AsyncIterator[bytes]:
        self._pages += 1
        try:
            async for message in self.collector.messages():
                yield message
        finally:
            self._pages -= 1

    async def _device(self, request: Request) -> Response:
        _check_reader(request)
        fleet = self.collector.fleet
        device = fleet.devices.get(request.path_params["key"])
        if device is None:
            raise _RefusedError(404, "no such device")
        fleet.history.settle()
        return _json(fleet.detail(device, time.monotonic()))

    async def _events(self, request: Request) -> Response:
        name = request.path_params["name"]
        rights = rights_of(request)
        if not self._settings.takes_events:
            raise _RefusedError(403, "this dashboard takes no events; start it with --token-file")
        if not rights.steer and rights.agent != name:
            raise _RefusedError(401, f"no token that may send events as {name!r}; give --events-token-file")
        if request.headers.get("content-type") != "application/x-ndjson":
            raise _RefusedError(415, "events are application/x-ndjson")
        run_id, now_s = request.headers.get("isthmus-run", ""), _seconds(request.headers.get("isthmus-now-s"))
        if not _NAME.fullmatch(name) or not _RUN_ID.fullmatch(run_id) or now_s is None:
            raise _RefusedError(400, "name, Isthmus-Run or Isthmus-Now-S is missing or of another form")
        events = _parse(await _body(request, LARGEST_POST))
        try:
            self.collector.take_post(name, run_id, events, now_s)
        except InputError as error:
            raise _RefusedError(409, str(error)) from None
        every_s = max(_POST_EVERY_S, len(self.collector.fleet.devices) / _POSTS_PER_S)
        return _json({"every_s": every_s})

    async def _control(self, request: Request) -> Response:
        if not rights_of(request).steer:
            raise _RefusedError(401, "read-only: give the token of --token-file")
        controls = self.collector.controls.all
        number = request.path_params["number"]
        if number >= len(controls):
            raise _RefusedError(404, "no such control")
        body = await _body(request, _LARGEST_WISH)
        try:
            wish = msgspec.json.decode(body, type=dict[str, float | None])
            said = await controls[number].set(wish)
        except msgspec.DecodeError as error:
            raise _RefusedError(400, f"not a wish: {error}") from None
        except InputError as error:
            raise _RefusedError(400, str(error)) from None
        except NetworkError as error:
            raise _RefusedError(502, str(error)) from None
        return _json(msgspec.to_builtins(said))

    def _file(self, name: str) -> Response:
        if name not in self._files:
            raise _RefusedError(404, "no such file")
        return Response(self._files[name], media_type=_TYPES["." + name.rpartition(".")[2]])


def _read_static() -> dict[str, bytes]:
    folder = files("isthmus.dashboard").joinpath("static")
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if "." + entry.name.rpartition(".")[2] in _TYPES
    }


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, _RefusedError)
    return error.response


def _check_reader(request: Request) -> None:
    if not rights_of(request).read:
        raise _RefusedError(401, "give the token of --token-file")


async def _body(request: Request, largest: int) -> bytes:
    """Return the body, of at most `largest` bytes and in bounded time."""

    async def read() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > largest:
                raise _RefusedError(413, f"larger than {largest} bytes")
        return bytes(body)

    try:
        return await asyncio.wait_for(read(), _SLOWEST_POST_S)
    except asyncio.TimeoutError:
        raise _RefusedError(408, f"took longer than {_SLOWEST_POST_S:g} s") from None
    except ClientDisconnect:
        raise _RefusedError(400, "gone") from None


def _parse(body: bytes) -> list[Event]:
    events: list[Event] = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if line:
            try:
                events.append(_decode_event(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise _RefusedError(400, f"line {number}: not an event: {error}") from None
    if not all(math.isfinite(event.at_s) for event in events):
        raise _RefusedError(400, "at_s must be finite")
    return events


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _json(content: Any) -> Response:
    return Response(_encode(content), media_type="application/json")
