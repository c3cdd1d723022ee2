import pytest

from isthmus.dashboard.settings import DashboardSettings
from isthmus.runtime.errors import InputError


def settings(tmp_path, **told):
    return DashboardSettings(**{"paths": (tmp_path,), **told})


def test_this_host_alone_needs_nothing(tmp_path):
    told = settings(tmp_path)
    assert not told.reading_needs_token
    assert not told.takes_events


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"paths": ()}, "nothing to show"),
        ({"host": "0.0.0.0"}, "give --certificate, --key and --token-file, or --insecure"),
        ({"port": 70_000}, "--port 70000"),
        ({"names": ("a/b",)}, "--name 'a/b'"),
        ({"metrics": ("nowhere",)}, "--metrics 'nowhere'"),
        ({"certificate": "a.pem"}, "belong together"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, told, says):
    with pytest.raises(InputError, match=says) as error:
        settings(tmp_path, **told)
    assert "\n" not in str(error.value)


def test_controls_need_a_token(tmp_path, token_file):
    with pytest.raises(InputError, match="--control needs --token-file"):
        settings(tmp_path, controls=(tmp_path / "x",))
    settings(tmp_path, controls=(tmp_path / "x",), token_file=token_file)


def test_a_short_token_or_one_that_all_may_read_is_refused(tmp_path, token_file):
    token_file.write_text("short\n")
    with pytest.raises(InputError, match="has 5 characters"):
        settings(tmp_path, token_file=token_file)
    token_file.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        settings(tmp_path, token_file=token_file)


def test_beyond_this_host_a_token_needs_tls(tmp_path, token_file, pki):
    with pytest.raises(InputError, match="anybody on that network can read the token"):
        settings(tmp_path, host="0.0.0.0", insecure=True, token_file=token_file)
    assert not settings(tmp_path, host="0.0.0.0", insecure=True).reading_needs_token
    made = pki.server("dashboard")
    pair = {"certificate": made.certificate, "key": made.key}
    secure = settings(tmp_path, host="0.0.0.0", token_file=token_file, **pair)
    assert secure.reading_needs_token
    with pytest.raises(InputError, match="--token-file"):
        settings(tmp_path, host="0.0.0.0", **pair)
