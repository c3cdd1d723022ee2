"""When TLS is spoken, and what a client is told about itself."""

from pathlib import Path

import pytest

from isthmus.runtime.errors import InputError
from isthmus.runtime.wire.tls import ClientSecurity, check_address, read_token

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("address", "fields", "secure"),
    [
        ("127.0.0.1:1", {}, False),
        ("localhost:1", {}, False),
        ("[::1]:1", {}, False),
        ("10.0.0.7:1", {}, True),
        ("tail.example:1", {}, True),
        ("10.0.0.7:1", {"insecure": True}, False),
        ("127.0.0.1:1", {"authority": Path("a.pem")}, True),
        ("127.0.0.1:1", {"certificate": Path("c.pem"), "key": Path("c.key")}, True),
    ],
)
def test_tls_is_the_default_beyond_this_host(address, fields, secure):
    assert ClientSecurity(**fields).is_secure(address) is secure


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"certificate": Path("c.pem")}, "--certificate and --key belong together"),
        ({"key": Path("c.key")}, "--certificate and --key belong together"),
        ({"insecure": True, "authority": Path("a.pem")}, "--insecure is plain text"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        ClientSecurity(**fields)


def test_files_are_checked_before_anything_is_sent(pki, tmp_path):
    pki.client().check("10.0.0.7:1")
    with pytest.raises(InputError, match=r"absent\.pem: No such file"):
        ClientSecurity(authority=tmp_path / "absent.pem").check("10.0.0.7:1")
    (pki.folder / "camera-1.key").chmod(0o644)
    with pytest.raises(InputError, match=r"camera-1\.key: everybody on this host"):
        pki.client().check("10.0.0.7:1")


@pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f"camera-1 {TOKEN}\n"])
def test_a_token_is_the_last_word_of_its_file(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(0o600)
    assert read_token(file) == TOKEN
    assert ClientSecurity(token_file=file).metadata("127.0.0.1:1") == (("authorization", f"Bearer {TOKEN}"),)
    assert ClientSecurity(token_file=file).metadata("10.0.0.7:1") != ()


def test_a_token_never_crosses_a_network_in_plain_text(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    with pytest.raises(
        InputError, match=r"in plain text anybody on the way to 10\.0\.0\.7:1 can read the token"
    ):
        ClientSecurity(token_file=file, insecure=True).check("10.0.0.7:1")
    ClientSecurity(token_file=file, insecure=True).check("127.0.0.1:1")


@pytest.mark.parametrize("text", ["", " \n", "a b c", "tökén"])
def test_a_file_without_one_token_is_refused(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(InputError, match="it must hold one token"):
        read_token(file)
    file.chmod(0o604)
    with pytest.raises(InputError, match="everybody on this host may use it"):
        read_token(file)


@pytest.mark.parametrize("address", ["", "a", ":1", "a:", "a:0", "a:65536", "a:x", "a:" + "9" * 50])
def test_addresses_that_are_none_are_refused(address):
    with pytest.raises(InputError, match="give HOST:PORT"):
        check_address(address)
