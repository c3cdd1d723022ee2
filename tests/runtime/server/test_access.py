"""The files that say who may do what, good and spoilt, and read again while a server runs."""

import logging
import os

import pytest

from isthmus.runtime.errors import InputError
from isthmus.runtime.server.access import (
    AllowList,
    WatchedFile,
    make_allow,
    read_allow,
    read_revoked,
    read_tokens,
)

TOKEN, OTHER = "0123456789abcdef", "fedcba9876543210"


def test_a_token_is_its_owners_and_nobody_elses():
    tokens = read_tokens(f"# devices\n\ncamera-1 {TOKEN}\n camera-2\t{OTHER}\n", source="t")
    assert tokens.name_of(TOKEN) == "camera-1"
    assert tokens.name_of(OTHER) == "camera-2"
    for wrong in ("", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "ünicode\udcff" * 4):
        assert tokens.name_of(wrong) is None


def test_one_client_may_have_two_tokens_so_that_they_can_be_changed():
    tokens = read_tokens(f"camera-1 {TOKEN}\ncamera-1 {OTHER}", source="t")
    assert {tokens.name_of(TOKEN), tokens.name_of(OTHER)} == {"camera-1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t: no token in it"),
        ("# nothing\n", "t: no token in it"),
        ("camera-1", "t, line 1: not 'name token'"),
        (f"a b {TOKEN}", "t, line 1: not 'name token'"),
        (f"\ncamera-1 {TOKEN[:-1]}", "t, line 2: the token of 'camera-1' has 15 characters"),
        (f"camera-1 {TOKEN}ä", "t, line 1: not 'name token'"),
        (f"a {TOKEN}\nb {TOKEN}", "t, line 2: 'b' has the token of 'a'"),
    ],
)
def test_a_spoilt_token_file_is_refused_with_its_line(text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_tokens(text, source="t")
    assert TOKEN not in str(caught.value)


def test_fingerprints_are_read_as_other_tools_write_them():
    colons = ":".join(["AB"] * 32)
    assert read_revoked(f"{colons} camera-1 2030-01-01\n{'0' * 64}\n", source="r") == {
        "ab" * 32: "camera-1",
        "0" * 64: "",
    }
    with pytest.raises(InputError, match="r, line 1: no SHA-256 fingerprint"):
        read_revoked("camera-1\n", source="r")


@pytest.mark.parametrize(
    ("client", "bundle", "allowed"),
    [
        ("camera-1", "digits", True),
        ("camera-2", "digits", False),
        ("anyone", "public", True),
        ("lab", "digits", True),
        ("lab", "unlisted", True),
        ("camera-1", "unlisted", False),
        ("operator", "digits", False),
    ],
)
def test_who_may_use_what(client, bundle, allowed):
    allow = read_allow(
        'digits = ["camera-1"]\npublic = ["*"]\n"*" = ["lab"]\n"@operators" = ["operator"]\n', source="a"
    )
    assert allow.allows(client, bundle) is allowed
    assert allow.is_operator(client) is (client == "operator")


def test_an_empty_list_allows_nobody_anything():
    assert not AllowList({}).allows("camera-1", "digits")
    assert not AllowList({}).is_operator("camera-1")


@pytest.mark.parametrize("text", ['digits = "camera-1"', "digits = [1]", "[digits]\na = 1"])
def test_a_list_of_another_form_is_refused(text):
    with pytest.raises(InputError, match="a: 'digits' needs a list of clients"):
        read_allow(text, source="a")
    with pytest.raises(InputError, match="a: not a TOML file"):
        read_allow("digits =", source="a")
    assert make_allow({"digits": ("x",)}, source="a").allows("x", "digits")


def _watch(path, **options):
    return WatchedFile(path, lambda text: read_tokens(text, source=str(path)), **options)


def _write(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    os.replace(new, path)


def test_a_file_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "tokens"
    _write(path, f"a {TOKEN}")
    watched = _watch(path, secret=True)
    watched.look()
    assert watched.version == 0
    _write(path, f"b {TOKEN}")
    watched.look()
    assert (watched.version, watched.value.name_of(TOKEN)) == (1, "b")


def test_what_was_read_before_a_file_was_spoilt_stays_in_force(tmp_path, caplog):
    path = tmp_path / "tokens"
    _write(path, f"a {TOKEN}")
    watched = _watch(path, secret=True)
    with caplog.at_level(logging.WARNING):
        _write(path, "nonsense")
        watched.look()
        path.unlink()
        watched.look()
        path.write_text(f"b {TOKEN}")
        path.chmod(0o644)
        watched.look()
        watched.look()
    assert (watched.version, watched.value.name_of(TOKEN)) == (0, "a")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert "not 'name token'" in said[0]
    assert "is gone" in said[1]
    assert "chmod 600" in said[2]
    assert all("stays in force" in line for line in said)


def test_a_file_must_be_there_unless_it_may_come_later(tmp_path):
    path = tmp_path / "revoked.txt"
    with pytest.raises(InputError, match="No such file"):
        _watch(path)
    watched = WatchedFile(path, lambda text: read_revoked(text, source="r"), missing={})
    assert watched.value == {}
    path.write_text("0" * 64)
    watched.look()
    assert list(watched.value) == ["0" * 64]
    path.unlink()
    watched.look()
    assert list(watched.value) == ["0" * 64], "who is revoked stays so when the list is lost"
