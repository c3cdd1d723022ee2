"""How a client of ours protects its way to a server, and proves who it is.

Decides when TLS is spoken: always when an authority or a certificate is named, and to every server that is
not this host, unless plain text is asked for. Files are read at every new connection, so that a renewed
certificate or token is used without a restart. Knows no frame and no server's rules.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from isthmus.runtime.errors import InputError
from isthmus.runtime.wire.certificate import check_secret, read_certificate, read_pem
from isthmus.runtime.wire.channel import CHANNEL_OPTIONS, Options

AUTHORIZATION: Final = "authorization"
BEARER: Final = "Bearer "

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSecurity:
    """What a client is told about TLS and about itself.

    Attributes:
        authority: PEM file of the authority that vouches for servers; None: those this system trusts.
        certificate, key: The client's own PEM files, for a server that asks for them (mutual TLS).
        token_file: File with one bearer token, for a server that asks for one.
        insecure: Speak plain text, to any host.

    Raises:
        InputError: If the settings contradict each other.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("--certificate and --key belong together; give both, or neither")
        if self.insecure and (self.authority is not None or self.certificate is not None):
            raise InputError(
                "--insecure is plain text, --authority and --certificate are TLS; give one or the other"
            )

    def is_secure(self, address: str) -> bool:
        """Say whether TLS is spoken to `address` (HOST:PORT)."""
        if self.insecure:
            return False
        return self.authority is not None or self.certificate is not None or not is_loopback(host_of(address))

    def check(self, address: str) -> None:
        """Check that everything needed to speak to `address` is there and can be read.

        Raises:
            InputError: If a file cannot be used, or a token would cross a network in plain text.
        """
        if self.authority is not None:
            read_certificate(self.authority, "the authority that vouches for the server")
        if self.certificate is not None:
            read_certificate(self.certificate, "this client's certificate")
        if self.key is not None:
            check_secret(self.key)
            read_pem(self.key, "this client's private key")
        self.metadata(address)

    def channel(self, address: str, options: Options = CHANNEL_OPTIONS) -> grpc.aio.Channel:
        """Return a new channel to `address`.

        Raises:
            InputError: If a file cannot be used.
        """
        if not self.is_secure(address):
            return grpc.aio.insecure_channel(address, options=options)
        credentials = grpc.ssl_channel_credentials(
            _optional(self.authority, "the authority that vouches for the server"),
            _optional(self.key, "this client's private key"),
            _optional(self.certificate, "this client's certificate"),
        )
        return grpc.aio.secure_channel(address, credentials, options=options)

    def metadata(self, address: str) -> Metadata:
        """Return what every call to `address` carries: the token, if there is one.

        Raises:
            InputError: If the token cannot be used, or would cross a network in plain text.
        """
        if self.token_file is None:
            return ()
        if not self.is_secure(address) and not is_loopback(host_of(address)):
            raise InputError(
                f"--token-file {self.token_file}: in plain text anybody on the way to {address} can read the "
                "token; leave out --insecure"
            )
        return ((AUTHORIZATION, BEARER + read_token(self.token_file)),)


# This host alone in plain text, any other by TLS and the authorities that the system trusts.
DEFAULT_SECURITY: Final = ClientSecurity()


def read_token(path: Path) -> str:
    """Return the one token in `path`: its last word, so that a line of the server's own file serves too.

    Raises:
        InputError: If the file cannot be read, everybody may read it, or it does not hold one token.
    """
    check_secret(path)
    try:
        words = path.read_text(encoding="ascii").split()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; give a file with one token") from None
    except UnicodeDecodeError:
        words = []
    if not 1 <= len(words) <= 2 or not words[-1].isprintable():
        raise InputError(f"{path}: it must hold one token (or one line 'name token') and nothing else")
    return words[-1]


def check_address(address: str) -> None:
    """Check that `address` is HOST:PORT.

    Raises:
        InputError: If not.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port[:6]) <= 65_535:
        raise InputError(f"server {address!r}: give HOST:PORT, for example 127.0.0.1:8001")


def host_of(address: str) -> str:
    """Return the host of HOST:PORT, without the brackets of an IPv6 address."""
    return address.rpartition(":")[0].strip("[]")


def is_loopback(host: str) -> bool:
    """Say whether `host` is this host for certain; a name other than localhost may be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _optional(path: Path | None, what: str) -> bytes | None:
    return None if path is None else read_pem(path, what)
