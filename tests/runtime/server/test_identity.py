"""Who is calling and what they may, by evidence as values."""

import math
import os
import time

import pytest

from isthmus.runtime.errors import BusyError, ForbiddenError, InputError, UnauthenticatedError
from isthmus.runtime.server import ServerConfig, identity
from isthmus.runtime.server.identity import Caller, Evidence, Gate
from isthmus.runtime.server.limits import ClientLimits

TOKEN, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture(autouse=True)
def _always_look(monkeypatch):
    monkeypatch.setattr(identity, "_LOOK_EVERY_S", 0.0)


@pytest.fixture
def make_gate(tmp_path):
    """Return `make(**config)`, which makes the gate of a configuration."""

    def make(**changes):
        return Gate.of(ServerConfig(bundles=(tmp_path,), **changes))

    return make


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "tokens"
    put(file, f"camera-1 {TOKEN}\ncamera-2 {OTHER}\n")
    return file


def put(file, text):
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    os.replace(new, file)


def shown(pki, name, **changes):
    pem = (pki.folder / f"{name}.pem").read_text()
    return Evidence(**{"host": "10.0.0.7", "certificate_pem": pem, "name": name, **changes})


def test_without_files_a_client_is_its_address_and_may_everything(make_gate):
    caller = Caller(make_gate(), Evidence(host="10.0.0.7"))
    caller.check("anything")
    caller.check_operator(changes=False)
    assert caller.name == "10.0.0.7"


@pytest.mark.parametrize(("host", "may"), [("127.0.0.1", True), ("::1", True), ("10.0.0.7", False)])
def test_where_nobody_proves_anything_only_this_host_changes_what_is_served(make_gate, host, may):
    caller = Caller(make_gate(), Evidence(host=host))
    if may:
        caller.check_operator(changes=True)
    else:
        with pytest.raises(ForbiddenError, match="may not manage bundles"):
            caller.check_operator(changes=True)


def test_a_token_names_the_client(make_gate, token_file):
    gate = make_gate(token_file=token_file)
    assert Caller(gate, Evidence(host="h", token=OTHER)).name == "camera-2"
    with pytest.raises(UnauthenticatedError, match="carries no bearer token"):
        Caller(gate, Evidence(host="h"))
    with pytest.raises(UnauthenticatedError, match="carries an unknown token") as caught:
        Caller(gate, Evidence(host="h", token="0" * 16))
    assert "0" * 16 not in str(caught.value)


def test_a_token_that_is_withdrawn_ends_open_calls(make_gate, token_file):
    caller = Caller(make_gate(token_file=token_file), Evidence(host="h", token=TOKEN))
    caller.check("tiny")
    put(token_file, f"camera-1 {OTHER}\n")
    with pytest.raises(UnauthenticatedError, match="unknown token"):
        caller.check("tiny")
    put(token_file, f"camera-9 {TOKEN}\n")
    with pytest.raises(UnauthenticatedError, match="'camera-1' is now of 'camera-9'"):
        caller.check("tiny")


def test_a_certificate_names_the_client_until_it_ends(make_gate, pki):
    gate = make_gate(**pki.serving())
    made = pki.device()
    assert Caller(gate, shown(pki, "camera-1")).name == "camera-1"
    assert gate.identify(shown(pki, "camera-1")) == ("camera-1", made.not_after.timestamp())
    with pytest.raises(UnauthenticatedError, match="no certificate with a name"):
        Caller(gate, Evidence(host="h"))


def test_a_connection_that_outlives_its_certificate_is_ended(make_gate, pki, monkeypatch):
    made = pki.device()
    caller = Caller(make_gate(**pki.serving()), shown(pki, "camera-1"))
    caller.check("tiny")
    monkeypatch.setattr(time, "time", lambda: made.not_after.timestamp() + 1)
    monkeypatch.setattr(identity, "now_utc", lambda: made.not_after)
    with pytest.raises(UnauthenticatedError, match="the certificate of 'camera-1' expired on"):
        caller.check("tiny")


def test_a_revoked_certificate_is_turned_away_at_the_door_and_in_the_middle(make_gate, pki):
    pki.device("camera-1")
    pki.device("camera-2")
    gate = make_gate(**pki.serving())
    open_call = Caller(gate, shown(pki, "camera-1"))
    pki.revoke("camera-1")
    with pytest.raises(UnauthenticatedError, match="'camera-1' is revoked"):
        open_call.check("tiny")
    with pytest.raises(UnauthenticatedError, match="'camera-1' is revoked"):
        Caller(gate, shown(pki, "camera-1"))
    Caller(gate, shown(pki, "camera-2")).check("tiny")


def test_with_both_the_two_must_be_of_one_client(make_gate, pki, token_file):
    pki.device()
    gate = make_gate(**pki.serving(), token_file=token_file)
    assert gate.identify(shown(pki, "camera-1", token=TOKEN))[0] == "camera-1"
    with pytest.raises(UnauthenticatedError, match="of 'camera-1' and the token of 'camera-2'"):
        gate.identify(shown(pki, "camera-1", token=OTHER))


def test_the_list_says_who_may_use_a_bundle_and_is_read_again(make_gate, token_file, tmp_path):
    allow = tmp_path / "allow.toml"
    put(allow, 'tiny = ["camera-1"]\n"@operators" = ["camera-2"]\n')
    gate = make_gate(token_file=token_file, allow=allow)
    first, second = (Caller(gate, Evidence(host="127.0.0.1", token=token)) for token in (TOKEN, OTHER))
    first.check("tiny")
    with pytest.raises(ForbiddenError, match="client 'camera-2' may not use model 'tiny'"):
        second.check("tiny")
    second.check_operator(changes=True)
    with pytest.raises(ForbiddenError, match="client 'camera-1' may not manage bundles"):
        first.check_operator(changes=False)
    put(allow, 'tiny = ["camera-2"]\n')
    second.check("tiny")
    with pytest.raises(ForbiddenError):
        first.check("tiny")


def test_a_list_without_identities_is_a_mistake(make_gate):
    with pytest.raises(InputError, match="--allow needs to know who calls"):
        make_gate(allow={"tiny": ("camera-1",)})


def test_callers_of_one_name_share_their_credit():
    gate = Gate(ClientLimits(streams=1, credit=2))
    here, there = Caller(gate, Evidence(host="h")), Caller(gate, Evidence(host="h"))
    here.take()
    there.take()
    with pytest.raises(BusyError):
        here.take()
    there.give()
    here.take()


def test_files_are_looked_at_once_a_second_at_most(make_gate, token_file, monkeypatch):
    monkeypatch.setattr(identity, "_LOOK_EVERY_S", math.inf)
    gate = make_gate(token_file=token_file)
    caller = Caller(gate, Evidence(host="h", token=TOKEN))
    put(token_file, f"camera-1 {OTHER}\n")
    caller.check("tiny")  # not yet
    monkeypatch.setattr(identity, "_LOOK_EVERY_S", 0.0)
    with pytest.raises(UnauthenticatedError):
        caller.check("tiny")
