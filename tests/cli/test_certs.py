"""`isthmus certs` on the command line."""

import json

import pytest

from isthmus.cli import run

pytest.importorskip("cryptography", reason="needs the extra 'certs'")


@pytest.fixture
def certs(capsys, tmp_path):
    """Return `certs(*arguments) -> (exit code, stdout, stderr)`, in a folder of the test's own."""

    def call(*arguments):
        code = run(["certs", *arguments, "--folder", str(tmp_path / "certs")])
        said = capsys.readouterr()
        return code, said.out, " ".join(said.err.split())

    return call


def test_an_authority_a_server_a_device(certs, tmp_path):
    assert certs("authority")[0] == 0
    code, out, _ = certs("server", "gpu", "--host", "tail.example", "--host", "10.0.0.7", "--json")
    made = json.loads(out)
    assert (code, made["name"], len(made["fingerprint"])) == (0, "gpu", 64)
    code, out, _ = certs("device", "camera-1")
    assert code == 0
    assert out.startswith(f"{tmp_path / 'certs' / 'camera-1.pem'} and ")
    code, out, _ = certs("show")
    assert code == 0
    assert [line.rpartition("/")[2].split(":")[0] for line in out.strip().splitlines()] == [
        "authority.pem",
        "camera-1.pem",
        "gpu.pem",
    ]
    assert out.count("valid until ") == 3


def test_what_is_revoked_or_ends_is_shown(certs):
    certs("authority")
    certs("device", "camera-1")
    certs("device", "camera-2", "--days", "3")
    assert certs("revoke", "camera-1")[0] == 0
    code, out, err = certs("show", "--json")
    assert code == 7
    assert "camera-2.pem: renew with" in err
    shown = {row["file"].rpartition("/")[2]: row for row in json.loads(out)["certificates"]}
    assert shown["camera-1.pem"]["revoked"]
    assert "soon" in shown["camera-2.pem"]["trouble"]
    assert certs("device", "camera-2", "--renew")[0] == 0
    code, out, _ = certs()
    assert code == 0, "show is what is meant when nothing is said"
    assert "camera-1.pem: revoked" in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["device", "camera-1"], "no authority there; make one with 'isthmus certs authority'"),
        (["show"], "no certificate there"),
        (["revoke", "camera-1"], "no authority there"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_3(certs, arguments, line):
    code, _, err = certs(*arguments)
    assert (code, err.startswith("error: ")) == (3, True)
    assert line in err


def test_nothing_is_overwritten(certs):
    certs("authority")
    code, _, err = certs("authority")
    assert code == 3
    assert "is there already" in err
    certs("device", "camera-1")
    code, _, err = certs("device", "camera-1")
    assert code == 3
    assert "--renew" in err
    code, _, err = certs("server", "gpu")
    assert code == 3
    assert "--host" in err
