"""What a dashboard is told, checked before anything starts.

Decides what is safe: this host alone in plain text; beyond it TLS and a token, or plain text for readers
alone if that is asked for.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from isthmus.dashboard.scraping import metrics_url
from isthmus.runtime.errors import InputError
from isthmus.runtime.server.access import Tokens, read_tokens
from isthmus.runtime.wire.certificate import check_secret, read_certificate
from isthmus.runtime.wire.tls import is_loopback, read_token

_SHORTEST_TOKEN = 16
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})")


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings:
    """Everything a dashboard is told.

    Attributes:
        paths: Event logs, and folders in which they are or will be.
        metrics: Servers' metrics pages, HOST:PORT or a URL.
        controls: Socket files of links and agents that the page may steer.
        host, port: Where it listens; port 0: any free one.
        names: More names by which browsers may call this host.
        token_file: File with the token that may steer and send events; None: nobody may.
        agents_file: File with agents' tokens, one `name token` a line: each may send its own events.
        certificate, key: PEM files: TLS.
        insecure: Plain text beyond this host, for reading only.

    Raises:
        InputError: If they contradict each other, or a file cannot be used.
    """

    paths: tuple[Path, ...] = ()
    metrics: tuple[str, ...] = ()
    controls: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8050
    names: tuple[str, ...] = ()
    token_file: Path | None = None
    agents_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(metrics_url(text) for text in self.metrics))
        if not (self.paths or self.metrics or self.takes_events):
            raise InputError(
                "nothing to show: give event logs or their folder, --metrics HOST:PORT of a server, or "
                "--token-file, with which agents may send their events"
            )
        if not 0 <= self.port <= 65_535:
            raise InputError(f"--port {self.port}: give 0 to 65535")
        for name in self.names:
            if not _HOST.fullmatch(name):
                raise InputError(f"--name {name!r}: give a host's name, without port")
        if self.controls and self.token_file is None:
            raise InputError("--control needs --token-file: only who has the token may steer")
        self._check_security()

    @property
    def takes_events(self) -> bool:
        """Whether agents may send events."""
        return self.token_file is not None or self.agents_file is not None

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.certificate is not None

    @property
    def reading_needs_token(self) -> bool:
        """Whether even a reader must have the token."""
        return not is_loopback(self.host) and not self.insecure

    @property
    def known_names(self) -> frozenset[str]:
        """Names by which browsers may call this host; addresses are always taken."""
        own = {"localhost", socket.gethostname().lower(), self.host.lower()}
        return frozenset(own | {name.lower() for name in self.names})

    def token(self) -> str | None:
        """Return the token that may do everything; None if nobody has one.

        Raises:
            InputError: If its file cannot be used.
        """
        if self.token_file is None:
            return None
        token = read_token(self.token_file)
        if len(token) < _SHORTEST_TOKEN or not token.isascii():
            raise InputError(
                f"{self.token_file}: the token has {len(token)} characters; give {_SHORTEST_TOKEN} or more, "
                "such as 'openssl rand -hex 32' prints"
            )
        return token

    def agent_tokens(self) -> Tokens | None:
        """Return the agents' tokens; None without a file of them.

        Raises:
            InputError: If the file cannot be used.
        """
        if self.agents_file is None:
            return None
        check_secret(self.agents_file)
        text = self.agents_file.read_text(encoding="utf-8", errors="replace")
        return read_tokens(text, source=str(self.agents_file))

    def _check_security(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("--certificate and --key belong together; give both, or neither")
        if self.certificate is not None and self.key is not None:
            read_certificate(self.certificate, "the dashboard's certificate")
            check_secret(self.key)
        self.token()
        self.agent_tokens()
        if is_loopback(self.host) or (self.secure and self.token_file is not None):
            return
        if not self.insecure:
            raise InputError(
                f"--host {self.host}: others can reach it; give --certificate, --key and --token-file, or "
                "--insecure to let everybody on that network read"
            )
        if self.takes_events and not self.secure:
            raise InputError(
                "--insecure: in plain text anybody on that network can read the token; leave it out, or give "
                "--certificate and --key"
            )
