"""Dates and fingerprints of certificates, from real ones and from bytes that are none."""

import hashlib
import os
import socket
import ssl
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import InputError, PeerError
from isthmus.runtime.wire.certificate import (
    check_secret,
    now_utc,
    parse_der,
    parse_pem,
    peer_certificate,
    read_certificate,
)


@pytest.mark.parametrize("days", [1, 400, 3000])
def test_the_dates_of_a_real_certificate(pki, days):
    found = read_certificate(pki.server(days=days).certificate)
    left = found.not_after - datetime.now(timezone.utc)
    assert timedelta(days=days, minutes=-5) < left <= timedelta(days=days)
    assert found.not_before < now_utc()
    assert found.fingerprint == hashlib.sha256(found.der).hexdigest()


def test_the_form_of_dates_changes_in_2050(pki_module, tmp_path):
    made = pki_module.authority.make_authority(tmp_path, days=36_000)
    assert read_certificate(made.certificate).not_after.year > 2100


def test_what_is_wrong_with_the_dates_is_said(pki):
    found = read_certificate(pki.server(days=30).certificate)
    assert found.trouble(now_utc()) == ""
    assert "soon" in found.trouble(found.not_after - timedelta(days=13))
    assert found.trouble(found.not_after).startswith("expired on ")
    assert "clock" in found.trouble(found.not_before - timedelta(seconds=1))
    assert not found.is_valid(found.not_after)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_refused(data):
    with pytest.raises(PeerError, match="not a certificate"):
        parse_der(data)


def test_a_truncated_certificate_is_refused(pki):
    der = read_certificate(pki.server().certificate).der
    for length in range(0, 150, 7):
        with pytest.raises(PeerError):
            parse_der(der[:length])


def test_a_chain_is_known_by_its_first_certificate(pki):
    leaf = pki.server().certificate.read_text()
    chain = "a comment\n" + leaf + pki.authority.read_text()
    assert parse_pem(chain, source="x").der == ssl.PEM_cert_to_DER_cert(leaf)


@pytest.mark.parametrize(
    "text", ["", "no pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "-----BEGIN"]
)
def test_a_file_without_a_certificate_is_one_line(tmp_path, text):
    file = tmp_path / "x.pem"
    file.write_text(text)
    with pytest.raises(InputError, match=r"x\.pem: "):
        read_certificate(file)
    with pytest.raises(InputError, match="No such file"):
        read_certificate(tmp_path / "absent.pem")


@pytest.mark.parametrize(("mode", "fine"), [(0o600, True), (0o640, True), (0o644, False), (0o601, False)])
def test_a_secret_that_everybody_may_read_is_none(tmp_path, mode, fine):
    file = tmp_path / "key"
    file.touch()
    os.chmod(file, mode)
    if fine:
        check_secret(file)
        return
    with pytest.raises(InputError, match=r"everybody on this host may use it \(mode 6.*chmod 600"):
        check_secret(file)


def test_a_port_without_tls_has_none():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert peer_certificate("127.0.0.1", port, timeout_s=0.2) is None
    assert peer_certificate("127.0.0.1", port, timeout_s=0.2) is None
