"""A private authority: what it makes is good for what it is for, and nothing is overwritten."""

import ssl
import stat
from datetime import timedelta

import pytest

pytest.importorskip("cryptography", reason="needs the extra 'certs'")

from cryptography import x509

from isthmus.runtime.errors import InputError
from isthmus.runtime.server import authority
from isthmus.runtime.server.access import REVOKED, read_revoked
from isthmus.runtime.wire.certificate import now_utc, read_certificate


def _parsed(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_keys_are_their_owners_alone(pki):
    for key in (pki.folder / "authority.key", pki.server().key, pki.device().key, pki.device(renew=True).key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert stat.S_IMODE(pki.folder.stat().st_mode) == 0o700


def test_a_certificate_is_for_its_purpose_names_and_time(pki):
    server = _parsed(pki.server(hosts=("tail.example", "10.0.0.7", "[::1]")).certificate)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["tail.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7", "::1"]
    device = _parsed(pki.device("camera-1").certificate)
    for certificate, purpose in ((server, "serverAuth"), (device, "clientAuth")):
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [oid._name for oid in usage] == [purpose]
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (constraints.critical, constraints.value.ca) == (True, False)
        certificate.verify_directly_issued_by(_parsed(pki.authority))
    assert device.subject.rfc4514_string() == "CN=camera-1"
    assert authority.issue_device(pki.folder, "default").not_after < now_utc() + timedelta(days=398)


def test_nothing_outlives_the_authority(tmp_path):
    authority.make_authority(tmp_path, days=10)
    made = authority.issue_device(tmp_path, "camera-1", days=400)
    assert made.not_after <= read_certificate(tmp_path / "authority.pem").not_after


def test_the_strictest_verifier_takes_them(pki):
    context = ssl.create_default_context(cafile=pki.authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    made = pki.server()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.certificate, made.key)
    wires = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = context.wrap_bio(*wires, server_hostname="localhost")
    there = server.wrap_bio(*reversed(wires), server_side=True)
    done = set()
    for _ in range(10):
        for end in (here, there):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    assert done == {here, there}


def test_nothing_is_overwritten_unless_it_is_renewed(pki):
    before = pki.device().certificate.read_bytes()
    with pytest.raises(InputError, match=r"camera-1\.pem: is there already.*--renew"):
        pki.device()
    with pytest.raises(InputError, match=r"authority\.pem: is there already; choose another name or folder$"):
        authority.make_authority(pki.folder)
    assert pki.device(renew=True).certificate.read_bytes() != before
    assert [path.name for path in pki.folder.glob(".*")] == []


@pytest.mark.parametrize("name", ["", "a/b", "../x", "-a", "a b", "ä", "a" * 65, "authority"])
def test_names_that_are_none_are_refused(pki, name):
    with pytest.raises(InputError, match="name "):
        pki.device(name)


@pytest.mark.parametrize("host", ["", "a:8001", "http://a", "-a", "a_b", "a..b"])
def test_hosts_that_are_none_are_refused(pki, host):
    with pytest.raises(InputError, match="--host"):
        pki.server(hosts=(host,))


def test_without_an_authority_nothing_is_made(tmp_path):
    with pytest.raises(InputError, match="no authority there; make one with 'isthmus certs authority'"):
        authority.issue_device(tmp_path, "camera-1")
    with pytest.raises(InputError, match="--host once for every name"):
        authority.issue_server(tmp_path, "server", [])


def test_what_is_revoked_stands_in_a_file_that_servers_read(pki, tmp_path):
    first, second = pki.device("camera-1"), pki.device("camera-2")
    assert pki.revoke("camera-1") == first.fingerprint
    with pytest.raises(InputError, match="is revoked already"):
        pki.revoke("camera-1")
    pki.revoke("camera-2")
    found = read_revoked((pki.folder / REVOKED).read_text(), source="r")
    assert found == {first.fingerprint: "camera-1", second.fingerprint: "camera-2"}
    authority.make_authority(tmp_path / "other")
    stranger = authority.issue_device(tmp_path / "other", "camera-3")
    with pytest.raises(InputError, match="not issued by the authority"):
        authority.revoke(pki.folder, stranger.certificate)
