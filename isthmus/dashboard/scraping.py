"""Fetch the servers' metrics pages, every second, each on its own; a page that does not answer delays none.

Decides how long a page may take and how large it may be. What it means is for `servers`.
"""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

from isthmus.dashboard.servers import Server, parse_page
from isthmus.runtime.errors import InputError, PeerError

_EVERY_S = 1.0
_TIMEOUT_S = 3.0
_LARGEST_PAGE = 4 << 20
# A server's page is never behind a proxy that is meant for the internet.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def metrics_url(text: str) -> str:
    """Return the address of the metrics page that `text` means: HOST:PORT, or http(s)://HOST:PORT[/PATH].

    Raises:
        InputError: If it is neither.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port and not parts.username
    except ValueError:  # a port that is no number
        good = False
    if not good:
        raise InputError(
            f"--metrics {text!r}: give HOST:PORT or http://HOST:PORT/metrics, of 'isthmus serve'"
        )
    return url if parts.path not in ("", "/") else f"{parts.scheme}://{parts.netloc}/metrics"


async def scrape(servers: Sequence[Server]) -> None:
    """Read every server's page once a second, until cancelled."""
    await asyncio.gather(*(_scrape_one(server) for server in servers))


async def _scrape_one(server: Server) -> None:
    while True:
        began_s = time.monotonic()
        try:
            text = await asyncio.to_thread(_fetch, server.url)
            server.read(parse_page(text), time.monotonic())
        except (OSError, ValueError, PeerError) as error:
            server.failed(_cause(error))
        await asyncio.sleep(max(0.1, began_s + _EVERY_S - time.monotonic()))


def _fetch(url: str) -> str:
    # The scheme was checked by `metrics_url`: neither a file nor anything else is ever opened.
    with _direct.open(url, timeout=_TIMEOUT_S) as answer:
        page: bytes = answer.read(_LARGEST_PAGE + 1)
    if len(page) > _LARGEST_PAGE:
        raise PeerError(f"larger than {_LARGEST_PAGE} bytes; give the page of 'isthmus serve --metrics-port'")
    return page.decode(errors="replace")


def _cause(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason)
