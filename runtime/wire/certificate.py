"""X.509 certificates as both ends look at them: dates, fingerprint, and which one a port shows.

Read without a library, so that the edge needs none. The standard library gives a certificate's dates only
after it has been verified, and an expired one is not.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from isthmus.runtime.errors import InputError, PeerError

# From this long before its end a certificate is spoken of.
EXPIRES_SOON = timedelta(days=14)

_SEQUENCE, _INTEGER, _CONTEXT_0 = 0x30, 0x02, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate, or the first of a chain.

    Attributes:
        der: Its bytes.
        not_before, not_after: The instants between which it is valid, UTC.
    """

    der: bytes
    not_before: datetime
    not_after: datetime

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its bytes, in hex."""
        return hashlib.sha256(self.der).hexdigest()

    def trouble(self, now: datetime) -> str:
        """Return what is wrong with its dates at `now`, or will soon be; empty if nothing is."""
        if now < self.not_before:
            return f"is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC; is this clock right?"
        if now >= self.not_after:
            return f"expired on {self.not_after:%Y-%m-%d %H:%M} UTC"
        if now >= self.not_after - EXPIRES_SOON:
            return f"expires on {self.not_after:%Y-%m-%d %H:%M} UTC, soon"
        return ""

    def is_valid(self, now: datetime) -> bool:
        """Say whether `now` lies within its dates."""
        return self.not_before <= now < self.not_after


def now_utc() -> datetime:
    """Return the instant that certificates are judged by."""
    return datetime.now(timezone.utc)


def parse_der(der: bytes) -> Certificate:
    """Return the certificate in `der` (RFC 5280, section 4.1).

    Raises:
        PeerError: If the bytes are no certificate.
    """
    try:
        _, outer, _ = _element(der, _SEQUENCE)
        _, body, _ = _element(outer, _SEQUENCE)
        if body[0] == _CONTEXT_0:  # the version, absent in the oldest certificates
            _, _, body = _element(body, _CONTEXT_0)
        for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):  # serial number, signature algorithm, issuer
            _, _, body = _element(body, tag)
        _, validity, _ = _element(body, _SEQUENCE)
        begin, start, rest = _element(validity)
        end, stop, _ = _element(rest)
        return Certificate(der=der, not_before=_instant(begin, start), not_after=_instant(end, stop))
    except (IndexError, KeyError, ValueError) as error:
        raise PeerError(
            f"not a certificate ({error or type(error).__name__}); ask who runs the other end"
        ) from None


def parse_pem(pem: str, *, source: str) -> Certificate:
    """Return the first certificate of a PEM text; `source` names it in errors.

    Raises:
        InputError: If there is none.
    """
    start = pem.find(_BEGIN)
    end = pem.find(_END, start)
    if start < 0 or end < 0:
        raise InputError(f"{source}: no PEM certificate in it; give the file that 'isthmus certs' wrote")
    try:
        return parse_der(ssl.PEM_cert_to_DER_cert(pem[start : end + len(_END)]))
    except (PeerError, ValueError) as error:
        raise InputError(f"{source}: {error}") from None


def read_pem(path: Path, what: str) -> bytes:
    """Return the bytes of a PEM file; `what` says in errors what was looked for.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; give the PEM file of {what}") from None


def read_certificate(path: Path, what: str = "the certificate") -> Certificate:
    """Return the first certificate of a PEM file.

    Raises:
        InputError: If it cannot be read or holds none.
    """
    return parse_pem(read_pem(path, what).decode("ascii", errors="replace"), source=str(path))


def check_secret(path: Path) -> None:
    """Check that a file with a secret is not readable by everybody on this host.

    Raises:
        InputError: If it is, or cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; name a file that is there") from None
    if mode & 0o007:
        raise InputError(
            f"{path}: everybody on this host may use it (mode {mode & 0o777:03o}); chmod 600 it, and if "
            "others may have read it, replace what it holds"
        )


def peer_certificate(host: str, port: int, *, timeout_s: float = 3.0) -> bytes | None:
    """Return the certificate (DER) that a port shows; None if it does not speak TLS or does not answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except (OSError, ValueError):  # ValueError: a host that is no name
        return None


def _instant(tag: int, text: bytes) -> datetime:
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[tag]
    # Two digits of a year: from 50 on they are of the century before, which strptime sees otherwise.
    when = datetime.strptime(text.decode("ascii"), form).replace(tzinfo=timezone.utc)
    return when.replace(year=when.year - 100) if tag == _UTC_TIME and when.year >= 2050 else when


def _element(data: bytes, expected: int | None = None) -> tuple[int, bytes, bytes]:
    """Return tag, content and what follows of the first DER element."""
    tag, length, start = data[0], data[1], 2
    if expected is not None and tag != expected:
        raise ValueError(f"tag {tag:#x} where {expected:#x} belongs")
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise ValueError("a length of impossible form")
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if start + length > len(data):
        raise ValueError("shorter than it says")
    return tag, data[start : start + length], data[start + length :]
