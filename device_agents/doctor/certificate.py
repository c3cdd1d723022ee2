"""When does the certificate of a TLS port expire? Asked without trusting it, read without a library.

The standard library gives a certificate's dates only after it has been verified, and an expired one is not.
"""

from __future__ import annotations

import socket
import ssl
from datetime import datetime, timezone

from isthmus.runtime.errors import PeerError

_SEQUENCE, _INTEGER, _CONTEXT_0 = 0x30, 0x02, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18


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


def expiry_of(der: bytes) -> datetime:
    """Return the instant until which a certificate is valid, UTC (RFC 5280, section 4.1).

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
        _, _, rest = _element(validity)
        tag, text, _ = _element(rest)
        form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[tag]
        # Two digits of a year: from 50 on they are of the century before, which strptime sees otherwise.
        when = datetime.strptime(text.decode("ascii"), form).replace(tzinfo=timezone.utc)
        return when.replace(year=when.year - 100) if tag == _UTC_TIME and when.year >= 2050 else when
    except (IndexError, KeyError, ValueError) as error:
        raise PeerError(
            f"not a certificate ({error or type(error).__name__}); ask who runs the server"
        ) from None


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
