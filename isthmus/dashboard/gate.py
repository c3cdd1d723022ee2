"""Who may come in: the right host name, no other site's pages, the right token; and what every answer says.

Decides for every request before anything of it is read. An ASGI middleware; knows no device.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.dashboard.settings import DashboardSettings
from isthmus.runtime.wire.tls import BEARER

# Nothing but our own files, no inline script or style, no frame around it, nothing sent elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
SAFE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Rights:
    """What a request may do.

    Attributes:
        read: See everything.
        steer: Turn knobs, and send events of any agent.
        agent: Send the events of this agent; None: of none by itself.
    """

    read: bool
    steer: bool
    agent: str | None = None


class Gate:
    """Judges requests.

    Args:
        app: What is behind the gate.
        settings: What the dashboard was told.
    """

    def __init__(self, app: ASGIApp, settings: DashboardSettings) -> None:
        self._app = app
        self._settings = settings
        self._names = settings.known_names
        token = settings.token()
        self._token = None if token is None else token.encode()
        self._agents = settings.agent_tokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on with its rights in the scope's state."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SAFE_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        refusal = self.refusal(scope["scheme"], headers)
        if refusal is not None:
            await PlainTextResponse(refusal, 403)(scope, receive, send_safely)
            return
        scope.setdefault("state", {})["rights"] = self.rights(headers.get("authorization", ""))
        await self._app(scope, receive, send_safely)

    def refusal(self, scheme: str, headers: Mapping[str, str]) -> str | None:
        """Return why a request is not even looked at; None if it is.

        A page elsewhere can have a browser call us, by a name that it lets point here (DNS rebinding) or as
        another site; neither is answered.
        """
        host = headers.get("host", "")
        if not self._is_known(_without_port(host)):
            return f"host {host!r} is not known here; start 'isthmus dashboard' with --name for it\n"
        origin = headers.get("origin")
        if origin is not None and origin != f"{scheme}://{host}":
            return "pages of other sites may not come here\n"
        # A link from elsewhere may open the page; nothing else may be fetched from elsewhere.
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "pages of other sites may not come here\n"
        return None

    def rights(self, authorization: str) -> Rights:
        """Return what the bearer of this header may do."""
        said = authorization.removeprefix(BEARER) if authorization.startswith(BEARER) else ""
        if self._token is not None and said and hmac.compare_digest(said.encode(), self._token):
            return Rights(read=True, steer=True)
        agent = self._agents.name_of(said) if self._agents is not None and said else None
        return Rights(read=not self._settings.reading_needs_token, steer=False, agent=agent)

    def _is_known(self, host: str) -> bool:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host.lower() in self._names
        return True


def rights_of(request: Any) -> Rights:
    """Return the rights of a request that has passed the gate."""
    rights: Rights = request.scope["state"]["rights"]
    return rights


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
