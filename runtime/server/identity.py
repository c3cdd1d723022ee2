"""Who is calling, and what they may: the certificate or the token of a call, judged by the server's files.

Decides whose a call is and whether that client may use a bundle, and decides it again for calls that are
open when a file changes or a certificate ends. Knows no gRPC: evidence comes as values.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from isthmus.runtime.errors import ForbiddenError, InputError, UnauthenticatedError
from isthmus.runtime.server.access import (
    REVOKED,
    AllowList,
    Tokens,
    WatchedFile,
    make_allow,
    read_allow,
    read_revoked,
    read_tokens,
)
from isthmus.runtime.server.config import ServerConfig
from isthmus.runtime.server.limits import ClientLimits
from isthmus.runtime.wire.certificate import now_utc, parse_pem
from isthmus.runtime.wire.tls import is_loopback

log = logging.getLogger("isthmus.server")

# Files are looked at no more often than this.
_LOOK_EVERY_S = 1.0
_UNLIMITED = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a call brings with it.

    Attributes:
        host: Address of the peer, without its port.
        certificate_pem: The certificate that TLS has verified; None: none.
        name: The name in it.
        token: The bearer token; None: none.
    """

    host: str
    certificate_pem: str | None = None
    name: str = ""
    token: str | None = None


class Caller:
    """The client of one open call.

    Attributes:
        name: Its identity, or the peer's address where the server asks for none.
    """

    def __init__(self, gate: Gate, evidence: Evidence) -> None:
        """Judge `evidence`.

        Raises:
            UnauthenticatedError: If it does not prove who calls.
        """
        self._gate = gate
        self._evidence = evidence
        self.name, self._until_s = gate.identify(evidence)
        self._version = gate.version

    def check(self, bundle: str) -> None:
        """Check that the client still is who it was, and may use `bundle`.

        Raises:
            UnauthenticatedError: If its certificate or token is not taken any more.
            ForbiddenError: If it may not use the bundle.
        """
        self._gate.look()
        if self._version != self._gate.version or time.time() >= self._until_s:
            name, self._until_s = self._gate.identify(self._evidence)
            if name != self.name:  # what it has in use is counted under the old one
                raise UnauthenticatedError(f"the token of '{self.name}' is now of '{name}'; connect again")
            self._version = self._gate.version
        self._gate.check_bundle(self.name, bundle)

    def check_operator(self, *, changes: bool) -> None:
        """Check that the client may see all bundles or, with `changes`, load and unload them.

        Raises:
            ForbiddenError: If not.
        """
        self._gate.check_operator(self.name, self._evidence.host, changes=changes)

    def take(self) -> None:
        """Count one more frame of the client in flight.

        Raises:
            BusyError: If it has as many as it may.
        """
        self._gate.limits.take(self.name)

    def give(self, frames: int = 1) -> None:
        """Count `frames` less in flight."""
        self._gate.limits.give(self.name, frames)


class Gate:
    """Judges callers by the files of a server's configuration, read again when they change.

    Attributes:
        version: Grows whenever a file has changed.

    Args:
        limits: What one client may have at once.
        certificates: Clients show certificates, and their names are identities.
        tokens, revoked, allow: The files; None: there is none.

    Raises:
        InputError: If clients are to be told apart and nothing tells who they are.
    """

    def __init__(
        self,
        limits: ClientLimits,
        *,
        certificates: bool = False,
        tokens: WatchedFile[Tokens] | None = None,
        revoked: WatchedFile[Mapping[str, str]] | None = None,
        allow: WatchedFile[AllowList] | AllowList | None = None,
    ) -> None:
        self.limits = limits
        self._certificates = certificates
        self._tokens, self._revoked, self._allow = tokens, revoked, allow
        self._files: list[WatchedFile[Tokens] | WatchedFile[Mapping[str, str]] | WatchedFile[AllowList]]
        self._files = [file for file in (tokens, revoked, allow) if isinstance(file, WatchedFile)]
        self._looked_s = -math.inf
        self.version = sum(file.version for file in self._files)
        if allow is not None and not self.identifies:
            raise InputError(
                "--allow needs to know who calls; give --client-authority or --token-file as well"
            )

    @classmethod
    def of(cls, config: ServerConfig) -> Gate:
        """Return the gate that `config` asks for.

        Raises:
            InputError: If a file cannot be used, or the list of bundles has no identities to go by.
        """
        limits = ClientLimits(streams=config.max_streams_per_client, credit=config.client_credit)
        allow: WatchedFile[AllowList] | AllowList | None = None
        if isinstance(config.allow, Path):
            source = str(config.allow)
            allow = WatchedFile(config.allow, lambda text: read_allow(text, source=source))
        elif config.allow is not None:
            allow = make_allow(config.allow, source="allow")
        return cls(
            limits,
            certificates=config.client_authority is not None,
            tokens=_tokens_of(config),
            revoked=_revoked_of(config),
            allow=allow,
        )

    @property
    def identifies(self) -> bool:
        """Whether clients must prove who they are."""
        return self._certificates or self._tokens is not None

    def look(self) -> None:
        """Read what has changed, at most once a second."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        for file in self._files:
            file.look()
        self.version = sum(file.version for file in self._files)

    def identify(self, evidence: Evidence) -> tuple[str, float]:
        """Return the name of the client, and until when (Unix seconds) the evidence holds.

        Raises:
            UnauthenticatedError: If the evidence does not prove who calls.
        """
        self.look()
        name, until_s = evidence.host, math.inf
        if self._certificates:
            name, until_s = self._by_certificate(evidence)
        if self._tokens is not None:
            owner = None if evidence.token is None else self._tokens.value.name_of(evidence.token)
            if owner is None:
                what = "carries no bearer token" if evidence.token is None else "carries an unknown token"
                raise UnauthenticatedError(
                    f"the call {what}; give --token-file with the token of this client"
                )
            if self._certificates and owner != name:
                raise UnauthenticatedError(
                    f"the certificate is of '{name}' and the token of '{owner}'; use the two of one client"
                )
            name = owner
        return name, until_s

    def check_bundle(self, client: str, bundle: str) -> None:
        """Check that `client` may use `bundle`.

        Raises:
            ForbiddenError: If not.
        """
        allow = self._allowed()
        if allow is not None and not allow.allows(client, bundle):
            raise ForbiddenError(
                f"client '{client}' may not use model {bundle!r}; ask who runs the server to allow it"
            )

    def check_operator(self, client: str, host: str, *, changes: bool) -> None:
        """Check that `client` may see every bundle or, with `changes`, load and unload them.

        Raises:
            ForbiddenError: If not.
        """
        allow = self._allowed()
        if allow is not None:
            allowed = allow.is_operator(client)
        else:
            # Where nobody has to prove anything, nobody far away changes what is served.
            allowed = not changes or self.identifies or is_loopback(host)
        if not allowed:
            raise ForbiddenError(
                f"client '{client}' may not manage bundles; ask who runs the server to add it to @operators"
            )

    def _allowed(self) -> AllowList | None:
        return self._allow.value if isinstance(self._allow, WatchedFile) else self._allow

    def _by_certificate(self, evidence: Evidence) -> tuple[str, float]:
        if evidence.certificate_pem is None or not evidence.name:
            raise UnauthenticatedError(
                "the call shows no certificate with a name; give --certificate and --key"
            )
        certificate = parse_pem(evidence.certificate_pem, source="the client's certificate")
        who = f"the certificate of '{evidence.name}'"
        if self._revoked is not None and certificate.fingerprint in self._revoked.value:
            raise UnauthenticatedError(f"{who} is revoked; ask who runs the server for another")
        # TLS has looked at it when the connection was made; a connection may outlive it.
        if not certificate.is_valid(now_utc()):
            raise UnauthenticatedError(f"{who} {certificate.trouble(now_utc())}; renew it")
        return evidence.name, certificate.not_after.timestamp()


def _tokens_of(config: ServerConfig) -> WatchedFile[Tokens] | None:
    if config.token_file is None:
        return None
    source = str(config.token_file)
    if config.certificate is None and not config.is_loopback:
        log.warning("tokens cross the network in plain text (--insecure): anybody on the way can use them")
    return WatchedFile(config.token_file, lambda text: read_tokens(text, source=source), secret=True)


def _revoked_of(config: ServerConfig) -> WatchedFile[Mapping[str, str]] | None:
    if config.client_authority is None:
        return None
    path = config.revoked or config.client_authority.parent / REVOKED
    # Beside the authority it appears with the first revocation; a file that was named must be there.
    missing: Mapping[str, str] | None = {} if config.revoked is None else None
    return WatchedFile(path, lambda text: read_revoked(text, source=str(path)), missing=missing)


_calling: ContextVar[Caller] = ContextVar("isthmus_caller")


def enter(caller: Caller) -> None:
    """Note that the call which this task answers is of `caller`."""
    _calling.set(caller)


def calling() -> Caller:
    """Return the client of the call that this task answers; one that may do everything if nobody asked."""
    found = _calling.get(None)
    if found is not None:
        return found
    return Caller(Gate(ClientLimits(streams=_UNLIMITED, credit=_UNLIMITED)), Evidence(host="anyone"))
