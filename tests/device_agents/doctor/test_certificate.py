"""Dates of certificates, from real ones and from bytes that are none."""

import ssl
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.device_agents.doctor.certificate import expiry_of, peer_certificate
from isthmus.runtime.errors import PeerError


@pytest.mark.parametrize("days", [1, 400, 40_000])  # the last lies beyond 2049, where the form changes
def test_the_expiry_of_a_real_certificate(make_certificate, days):
    certificate, _ = make_certificate(days=days)
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    left = expiry_of(der) - datetime.now(timezone.utc)
    assert timedelta(days=days, minutes=-5) < left <= timedelta(days=days)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_refused(data):
    with pytest.raises(PeerError, match="not a certificate"):
        expiry_of(data)


def test_a_truncated_certificate_is_refused(make_certificate):
    der = ssl.PEM_cert_to_DER_cert(make_certificate(days=5)[0].read_text())
    for length in range(0, 150, 7):
        with pytest.raises(PeerError):
            expiry_of(der[:length])


def test_a_port_without_tls_has_none():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert peer_certificate("127.0.0.1", port, timeout_s=0.2) is None
    assert peer_certificate("127.0.0.1", port, timeout_s=0.2) is None
