"""The server's own certificate: loaded, watched, and replaced while connections go on.

Decides which certificate the next handshake shows. Connections that are open keep theirs; a pair that does
not fit together, half written for instance, waits until it does.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc

from isthmus.runtime.errors import InputError
from isthmus.runtime.server.config import ServerConfig
from isthmus.runtime.wire.certificate import (
    Certificate,
    check_secret,
    now_utc,
    parse_pem,
    read_certificate,
    read_pem,
)

log = logging.getLogger("isthmus.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    certificate: Certificate
    configuration: grpc.ServerCertificateConfiguration


class ServerCertificate:
    """The certificate, key and clients' authority of a server, read again when a file changes.

    Raises:
        InputError: If a file cannot be used, or certificate and key do not belong together.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_authority: Path | None = None,
        *,
        told: Callable[[datetime], None] = lambda not_after: None,
    ) -> None:
        """Read the PEM files.

        Args:
            certificate: The server's, or its chain.
            key: Its private key.
            client_authority: Clients must show a certificate of this authority; None: none.
            told: Called with the end of every certificate read, on any thread.
        """
        self._told = told
        self._certificate, self._key, self._authority = certificate, key, client_authority
        self._lock = threading.Lock()
        self._seen = self._stamps()
        self._loaded = self._load()

    @classmethod
    def of(cls, config: ServerConfig, told: Callable[[datetime], None]) -> ServerCertificate | None:
        """Return what `config` names, None: plain text; `told` as for a new one.

        Raises:
            InputError: If a file cannot be used.
        """
        if config.certificate is None or config.key is None:
            return None
        return cls(config.certificate, config.key, config.client_authority, told=told)

    @property
    def not_after(self) -> datetime:
        """The instant until which the certificate is valid, UTC."""
        self._look()
        return self._loaded.certificate.not_after

    def trouble(self) -> str:
        """Return what is wrong with its dates, or will soon be; empty if nothing is."""
        return self._loaded.certificate.trouble(now_utc())

    def credentials(self) -> grpc.ServerCredentials:
        """Return what gRPC takes; every handshake asks for the certificate of that moment."""
        return grpc.dynamic_ssl_server_credentials(
            self._loaded.configuration,
            self._fetch,  # type: ignore[arg-type]  # None is documented: no change
            require_client_authentication=self._authority is not None,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        # On one of gRPC's threads, before each handshake; None: as before.
        return self._loaded.configuration if self._look() else None

    def _look(self) -> bool:
        with self._lock:
            stamps = self._stamps()
            if stamps == self._seen:
                return False
            try:
                self._loaded = self._load()
            except InputError as error:
                # Said once for each state of the files, and looked at again when they change.
                log.warning("%s; the certificate read before stays in use", error)
                self._seen = stamps
                return False
            self._seen = stamps
            log.info("%s: read again; valid until %s", self._certificate, self._loaded.certificate.not_after)
            return True

    def _load(self) -> _Loaded:
        check_secret(self._key)
        chain = read_pem(self._certificate, "the server's certificate")
        key = read_pem(self._key, "the server's private key")
        certificate = parse_pem(chain.decode("ascii", errors="replace"), source=str(self._certificate))
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise InputError(
                f"{self._certificate}: cannot be used with the key {self._key} ({reason}); give the two "
                "files that 'isthmus certs server' wrote together"
            ) from None
        authority = None
        if self._authority is not None:
            read_certificate(self._authority, "the clients' authority")
            authority = read_pem(self._authority, "the clients' authority")
        configuration = grpc.ssl_server_certificate_configuration([(key, chain)], authority)
        self._told(certificate.not_after)
        return _Loaded(certificate=certificate, configuration=configuration)

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(
            _stamp(path) for path in (self._certificate, self._key, self._authority) if path is not None
        )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
