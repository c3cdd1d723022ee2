"""A private authority in a folder: its own certificate, and those it gives to servers and devices.

Decides names, lifetimes and what a certificate may be used for; the cryptography is the library's. Keys are
EC P-256, written readable by their owner alone. Never overwrites what is there, unless told to renew. What
is revoked stands in one text file beside the authority, which servers read again when it changes.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.runtime.errors import InputError
from isthmus.runtime.server.access import REVOKED, read_revoked
from isthmus.runtime.wire.certificate import check_secret, now_utc, read_certificate, read_pem

AUTHORITY = "authority"
# Ten years for what is hard to replace; a little over a year, as for public servers, for what is not.
AUTHORITY_DAYS, LEAF_DAYS, MOST_DAYS = 3650, 397, 36_500
# Clocks differ, above all those of devices without a battery.
_BACKDATED = timedelta(hours=1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BASIC_LEAF = x509.BasicConstraints(ca=False, path_length=None)
_BASIC_AUTHORITY = x509.BasicConstraints(ca=True, path_length=0)

_Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was made, and where it lies.

    Attributes:
        name: Its common name; of a device, its identity on servers.
        certificate, key: The PEM files.
        not_after: The instant it is valid until, UTC.
        fingerprint: SHA-256 of the certificate, in hex.
    """

    name: str
    certificate: Path
    key: Path
    not_after: datetime
    fingerprint: str


def make_authority(folder: Path, *, name: str = "isthmus", days: float = AUTHORITY_DAYS) -> Issued:
    """Make an authority in `folder`; its key never leaves it.

    Raises:
        InputError: If there is one already, or the folder cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = _builder(subject, subject, key, key, now_utc() + _lifetime(days))
    builder = builder.add_extension(_BASIC_AUTHORITY, critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    return _write(folder, AUTHORITY, builder.sign(key, hashes.SHA256()), key, renew=False)


def issue_server(
    folder: Path, name: str, hosts: Sequence[str], *, days: float = LEAF_DAYS, renew: bool = False
) -> Issued:
    """Make the certificate of a server that is reached as `hosts`, names or addresses.

    Raises:
        InputError: If there is no authority, the name is taken or unfit, or a host is none.
    """
    if not hosts:
        raise InputError(f"server {name}: give --host once for every name or address it is reached by")
    names = x509.SubjectAlternativeName([_host(host) for host in hosts])
    return _issue(folder, name, names, ExtendedKeyUsageOID.SERVER_AUTH, days=days, renew=renew)


def issue_device(folder: Path, name: str, *, days: float = LEAF_DAYS, renew: bool = False) -> Issued:
    """Make the certificate of a device; `name` is its identity on servers.

    Raises:
        InputError: If there is no authority, or the name is taken or unfit.
    """
    _check_name(name)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:isthmus:device:{name}")])
    return _issue(folder, name, names, ExtendedKeyUsageOID.CLIENT_AUTH, days=days, renew=renew)


def revoke(folder: Path, certificate: Path) -> str:
    """Note that servers must not take `certificate` any more; return its fingerprint.

    Raises:
        InputError: If it cannot be read, is not of this authority, or is revoked already.
    """
    authority, _ = _load_authority(folder)
    parsed = _load_certificate(certificate)
    try:
        parsed.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise InputError(f"{certificate}: not issued by the authority in {folder}; name its folder") from None
    fingerprint = read_certificate(certificate).fingerprint
    list_file = folder / REVOKED
    try:
        before = list_file.read_text(encoding="utf-8") if list_file.exists() else ""
    except OSError as error:
        raise InputError(f"{list_file}: {error.strerror or error}; make it readable") from None
    if fingerprint in read_revoked(before, source=str(list_file)):
        raise InputError(f"{certificate}: is revoked already")
    line = f"{fingerprint} {_common_name(parsed)} {now_utc():%Y-%m-%d}\n"
    _put(list_file, (before + line).encode(), mode=0o644, replace=True)
    return fingerprint


def _issue(
    folder: Path,
    name: str,
    names: x509.SubjectAlternativeName,
    purpose: x509.ObjectIdentifier,
    *,
    days: float,
    renew: bool,
) -> Issued:
    _check_name(name)
    authority, signer = _load_authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    # Nobody trusts a certificate beyond its issuer's own end.
    not_after = min(now_utc() + _lifetime(days), authority.not_valid_after_utc)
    builder = _builder(_subject(name), authority.subject, key, signer, not_after)
    builder = builder.add_extension(_BASIC_LEAF, critical=True)
    builder = builder.add_extension(_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    builder = builder.add_extension(names, critical=False)
    return _write(folder, name, builder.sign(signer, hashes.SHA256()), key, renew=renew)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, signer: _Key, not_after: datetime
) -> x509.CertificateBuilder:
    # Verifiers of today (X509_V_FLAG_X509_STRICT) want both key identifiers.
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now_utc(), not_after) - _BACKDATED)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _lifetime(days: float) -> timedelta:
    if not days <= MOST_DAYS:
        raise InputError(f"--days {days:g}: give at most {MOST_DAYS}")
    return timedelta(days=days)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name == AUTHORITY:
        raise InputError(
            f"name {name!r}: give letters, digits, '.', '_' and '-', at most 64, and not {AUTHORITY!r}"
        )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    labels = host.split(".")
    if len(host) > 253 or not all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label) for label in labels):
        raise InputError(f"--host {host!r}: give a host name or an address, without a port")
    return x509.DNSName(host)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _load_authority(folder: Path) -> tuple[x509.Certificate, _Key]:
    certificate, key = folder / f"{AUTHORITY}.pem", folder / f"{AUTHORITY}.key"
    if not certificate.exists() or not key.exists():
        raise InputError(f"{folder}: no authority there; make one with 'isthmus certs authority'")
    check_secret(key)
    try:
        private = load_pem_private_key(read_pem(key, "the authority's key"), password=None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{key}: not a private key without a password ({error})") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise InputError(f"{key}: not an EC key; make an authority with 'isthmus certs authority'")
    return _load_certificate(certificate), private


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_pem(path, "a certificate"))
    except ValueError:
        raise InputError(f"{path}: no PEM certificate in it") from None


def _write(folder: Path, name: str, certificate: x509.Certificate, key: _Key, *, renew: bool) -> Issued:
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; choose another --folder") from None
    for path in paths:
        if path.exists() and not renew:
            advice = "" if name == AUTHORITY else ", or say --renew to replace it"
            raise InputError(f"{path}: is there already; choose another name or folder{advice}")
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # The key first: a server that reads between the two sees a pair that does not match, and waits.
    _put(paths[1], secret, mode=0o600, replace=renew)
    _put(paths[0], certificate.public_bytes(Encoding.PEM), mode=0o644, replace=renew)
    made = read_certificate(paths[0])
    return Issued(
        name=name,
        certificate=paths[0],
        key=paths[1],
        not_after=made.not_after,
        fingerprint=made.fingerprint,
    )


def _put(path: Path, content: bytes, *, mode: int, replace: bool) -> None:
    """Write a whole file at once, with `mode` from the first byte on."""
    target = path.with_name(f".{path.name}.new") if replace else path
    try:
        target.unlink(missing_ok=True) if replace else None
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        if replace:
            target.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; choose another --folder") from None
