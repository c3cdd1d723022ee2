import dataclasses
from pathlib import Path

import pytest

from isthmus.runtime.errors import InputError
from isthmus.runtime.server.config import ServerConfig
from isthmus.runtime.server.settings import SETTINGS, read_config


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('bundles = ["a", "/b"]\nport = 1\nqueue = 1000\nmax_batch = 7\nwatch = true\n')
    config = read_config(
        {"port": 3, "queue": None},
        environ={"ISTHMUS_SERVE_PORT": "2", "ISTHMUS_SERVE_QUEUE": "500", "ISTHMUS_SERVE_INSECURE": "yes"},
        file=file,
    )
    assert (config.port, config.queue_frames, config.max_batch) == (3, 500, 7)
    assert config.watch
    assert config.insecure
    assert config.bundles == (tmp_path / "a", Path("/b")), "a file's paths start where the file is"


def test_the_environment_lists_bundles_with_commas():
    assert read_config({}, environ={"ISTHMUS_SERVE_BUNDLES": "a, b"}).bundles == (Path("a"), Path("b"))


def test_every_field_has_a_setting():
    assert {field for field, _ in SETTINGS.values()} == {
        field.name for field in dataclasses.fields(ServerConfig)
    }


def test_a_table_says_who_may_use_which_bundle(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('bundles = ["a"]\n[allow]\ndigits = ["camera-1", "camera-2"]\n')
    assert read_config({}, environ={}, file=file).allow == {"digits": ("camera-1", "camera-2")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1\n", f"{{file}}: setting 'prot' is unknown; known are {', '.join(SETTINGS)}"),
        ('port = "x"\n', "port 'x': give a whole number"),
        ("port = 1.5\n", "port 1.5: give a whole number"),
        ("watch = 3\n", "watch 3: give true or false"),
        ('grace = "5"\n', "duration '5' is not a number with a unit; write it as 150ms, 5s, 1m or 2h"),
        ("certificate = 3\n", "certificate 3: give a path"),
        ("bundles = 3\n", "bundles 3: give a list of directories"),
        ("[allow]\nx = 3\n", "allow: x = 3: give a list of identities"),
    ],
)
def test_a_mistake_is_one_exact_line(text, message, tmp_path):
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read_config({"bundles": ["a"]} if "bundles" not in text else {}, environ={}, file=file)
    assert str(refused.value) == message.format(file=file)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(InputError) as refused:
        read_config({}, environ={}, file=tmp_path / "none.toml")
    assert str(refused.value) == (
        f"{tmp_path / 'none.toml'}: No such file or directory; give a TOML file with the server's settings"
    )
    (tmp_path / "bad.toml").write_text("port = = 3")
    with pytest.raises(InputError, match=r"bad\.toml: not a TOML file \(.*\); mend it"):
        read_config({}, environ={}, file=tmp_path / "bad.toml")
