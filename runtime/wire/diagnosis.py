"""Why a connection did not come about: in one line, where gRPC says no more than "Socket closed".

Asks the port itself, once, with the standard library's TLS and the same files. Says nothing (None) where the
reason is not one of trust: such a connection is worth another attempt.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import grpc
import grpc.aio

from isthmus.runtime.errors import AccessError, InputError
from isthmus.runtime.wire.certificate import now_utc, parse_der, peer_certificate, read_certificate
from isthmus.runtime.wire.tls import ClientSecurity, host_of

_TIMEOUT_S = 3.0
# What gRPC says when a handshake may have failed; anything else is the network's business.
_SIGNS = ("handshake failed", "socket closed", "connection reset", "verification check", "broken pipe")
_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_EXPIRED, _NOT_YET = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID


async def why_no_connection(
    error: grpc.aio.AioRpcError, address: str, security: ClientSecurity
) -> AccessError | None:
    """Return why trust failed between this client and `address`, if that is what `error` comes from.

    Args:
        error: What a call on a new connection ended with.
        address: HOST:PORT of the server.
        security: What the client was told.
    """
    said = (error.details() or "").lower()
    if error.code() is not grpc.StatusCode.UNAVAILABLE or not any(sign in said for sign in _SIGNS):
        return None
    text = await asyncio.to_thread(diagnose, address, security)
    return None if text is None else AccessError(f"server {address}: {text}")


def diagnose(address: str, security: ClientSecurity) -> str | None:
    """Return what a handshake with `address` shows to be wrong; None: nothing. Takes seconds at most."""
    host, port = host_of(address), int(address.rpartition(":")[2])
    if not security.is_secure(address):
        if peer_certificate(host, port, timeout_s=_TIMEOUT_S) is None:
            return None
        return "it speaks TLS, and this end plain text; give --authority with the file that vouches for it"
    try:
        context = _context(security)
    except (OSError, InputError) as error:  # ssl.SSLError is an OSError
        return f"the files of --authority, --certificate and --key cannot be used ({error})"
    try:
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            # A server that accepts us speaks first: HTTP/2 opens with its settings.
            heard = secured.recv(1)
    except ssl.SSLCertVerificationError as error:
        return _distrust(host, port, error, security.authority)
    except ssl.SSLError as error:
        return _failed_handshake(error, security)
    except (ConnectionResetError, BrokenPipeError):
        heard = b""
    except (OSError, ValueError):
        return None
    return None if heard else _refused(security)


def _context(security: ClientSecurity) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=security.authority)
    context.set_alpn_protocols(["h2"])
    if security.certificate is not None and security.key is not None:
        context.load_cert_chain(security.certificate, security.key)
    return context


def _distrust(host: str, port: int, error: ssl.SSLCertVerificationError, authority: Path | None) -> str:
    if error.verify_code in _MISMATCH:
        return (
            f"its certificate is not for the name {host!r}; use a name that it is for, or make it another "
            f"with 'isthmus certs server NAME --host {host}'"
        )
    if error.verify_code in (_EXPIRED, _NOT_YET):
        shown = peer_certificate(host, port, timeout_s=_TIMEOUT_S)
        when = ""
        if shown is not None:
            certificate = parse_der(shown)
            instant = certificate.not_after if error.verify_code == _EXPIRED else certificate.not_before
            when = f" on {instant:%Y-%m-%d %H:%M} UTC"
        what = "expired" if error.verify_code == _EXPIRED else "becomes valid only"
        return f"its certificate {what}{when}; it must be renewed there, unless this clock is wrong"
    trusted = "this system trusts" if authority is None else f"{authority} vouches for"
    return (
        f"its certificate is not one that {trusted} ({error.verify_message}); give --authority with the file "
        "of the server's own authority"
    )


def _failed_handshake(error: ssl.SSLError, security: ClientSecurity) -> str | None:
    reason = error.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return (
            "it speaks plain text, and this end TLS; serve with --certificate and --key there, or give "
            "--insecure on a network you trust"
        )
    if "ALERT" in reason or "CERTIFICATE" in reason:
        return _refused(security)
    return None


def _refused(security: ClientSecurity) -> str:
    """Return why the server hung up on a client that trusts it."""
    if security.certificate is None:
        return "it wants a certificate of this client; give --certificate and --key"
    own = read_certificate(security.certificate)
    if not own.is_valid(now_utc()):
        return (
            f"it refused this client's certificate {security.certificate}, which {own.trouble(now_utc())}; "
            "make another with 'isthmus certs device NAME --renew'"
        )
    return (
        f"it refused this client's certificate {security.certificate}; use one of the authority that the "
        "server was given with --client-authority"
    )
