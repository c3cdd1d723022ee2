"""Flags win over the environment, that over the file; bad values are one line."""

import pytest

from isthmus.device_agents.config import AgentConfig, read_config
from isthmus.runtime.errors import InputError


def test_defaults_are_those_the_help_states():
    config = read_config({"source": "digits"}, environ={})
    assert config == AgentConfig(
        server="127.0.0.1:8001", source="digits", fps=30.0, deadline_s=0.15, policy="expected-utility"
    )


def test_flags_win_over_environment_and_that_over_the_file(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text(
        'source = "npz:file.npz"\nfps = 5\nserver = "localhost:1"\ninsecure = false\nframes = 7\n'
    )
    environ = {"ISTHMUS_AGENT_FPS": "10", "ISTHMUS_AGENT_SERVER": "localhost:2", "OTHER": "x"}
    config = read_config({"server": "localhost:3", "fps": None}, environ=environ, file=file)
    assert (config.source, config.fps, config.server, config.frames) == (
        "npz:file.npz",
        10.0,
        "localhost:3",
        7,
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "source is not set"),
        ({"source": "digits", "deadline": "150"}, "duration '150'"),
        ({"source": "digits", "deadline": "0s"}, "deadline 0: give 0.001"),
        ({"source": "digits", "fps": "fast"}, "fps 'fast': give a number"),
        ({"source": "digits", "fps": "nan"}, "fps nan"),
        ({"source": "digits", "fps": 0}, "fps 0"),
        ({"source": "digits", "frames": 0}, "frames 0: give 1 or more"),
        ({"source": "digits", "frames": "1.5"}, "frames '1.5': give a whole number"),
        ({"source": "digits", "duration": "0s"}, "duration 0 s"),
        ({"source": "digits", "duration": "soon"}, "duration 'soon'"),
        ({"source": "digits", "threads": 0}, "threads 0"),
        ({"source": "digits", "threads": True}, "threads True"),
        ({"source": "digits", "server": "127.0.0.1"}, "give HOST:PORT"),
        ({"source": "digits", "server": "127.0.0.1:99999"}, "give HOST:PORT"),
        ({"source": "digits", "server": ":80"}, "give HOST:PORT"),
        ({"source": "digits", "authority": "absent.pem"}, "absent.pem: No such file"),
        ({"source": "digits", "certificate": "a.pem"}, "--certificate and --key belong together"),
        ({"source": "digits", "authority": "a.pem", "insecure": True}, "give one or the other"),
        ({"source": "digits", "insecure": "perhaps"}, "give true or false"),
    ],
)
def test_bad_values_are_refused_in_one_line(flags, message):
    with pytest.raises(InputError, match=message) as error:
        read_config(flags, environ={})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"), [("frames = inf", "frames inf: give a whole"), ("fps = [1]", "fps")]
)
def test_a_file_may_hold_values_of_any_type(tmp_path, line, message):
    file = tmp_path / "agent.toml"
    file.write_text(f'source = "digits"\n{line}\n')
    with pytest.raises(InputError, match=message):
        read_config({}, environ={}, file=file)


def test_a_file_name_that_looks_like_a_number_is_one(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text('source = "digits"\nevents = 5\n')
    assert str(read_config({}, environ={}, file=file).events) == "5"


@pytest.mark.parametrize("server", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"])
def test_this_host_needs_no_permission(server):
    assert read_config({"source": "digits", "server": server}, environ={}).server == server


def test_another_host_is_taken_if_that_is_accepted():
    config = read_config({"source": "digits", "server": "10.0.0.7:8001", "insecure": True}, environ={})
    assert config.server == "10.0.0.7:8001"


def test_a_file_with_an_unknown_setting_or_that_is_no_toml_is_refused(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text("sauce = 1\n")
    with pytest.raises(
        InputError, match=r"agent\.toml: setting 'sauce' is unknown; known are bundle, server"
    ):
        read_config({"source": "digits"}, environ={}, file=file)
    file.write_text("= nothing")
    with pytest.raises(InputError, match=r"agent\.toml: not a TOML file"):
        read_config({"source": "digits"}, environ={}, file=file)
    with pytest.raises(InputError, match=r"none\.toml: No such file"):
        read_config({"source": "digits"}, environ={}, file=tmp_path / "none.toml")


def test_every_setting_may_stand_in_the_file(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text(
        'bundle = "runs/x"\nservers = ["localhost:1", "localhost:2"]\nfailback = "3s"\nsource = "digits"\n'
        'queue = "fifo:4"\nobjective = "energy"\nexit_confidence = 0.9\nresults = "-"\nstatus = "s.json"\n'
        'provider = "xnnpack"\nthermal = "off"\n'
    )
    config = read_config({}, environ={}, file=file)
    assert (str(config.bundle), config.servers, config.server) == (
        "runs/x",
        ("localhost:1", "localhost:2"),
        "localhost:1",
    )
    assert (config.failback_s, config.queue_limit, config.objective) == (3.0, 4, "energy")
    assert (config.exit_confidence, config.results, str(config.status)) == (0.9, "-", "s.json")
    assert (config.provider, config.thermal) == ("xnnpack", "off")


def test_one_server_in_an_upper_layer_overrules_a_list_below_and_the_other_way_round(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text('source = "digits"\nservers = "localhost:1, localhost:2"\n')
    assert read_config({}, environ={}, file=file).servers == ("localhost:1", "localhost:2")
    flags = {"server": "localhost:3"}
    assert read_config(flags, environ={}, file=file).servers == ("localhost:3",)
    environ = {"ISTHMUS_AGENT_SERVER": "localhost:4"}
    assert read_config({}, environ=environ, file=file).servers == ("localhost:4",)
    flags = {"servers": "localhost:5,localhost:6"}
    assert read_config(flags, environ=environ, file=file).server == "localhost:5"


def test_no_confidence_is_a_value_that_overrules(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text('source = "digits"\nexit_confidence = 0.5\n')
    assert read_config({"exit_confidence": "none"}, environ={}, file=file).exit_confidence is None


def test_the_newest_frame_wins_unless_a_queue_is_asked_for():
    assert read_config({"source": "digits"}, environ={}).queue_limit is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"queue": "lifo"}, "queue 'lifo': give newest, or fifo:N"),
        ({"queue": "fifo:0"}, "queue 'fifo:0'"),
        ({"queue": "fifo:99999999999"}, "with N from 1 to 100000"),
        ({"exit_confidence": "sure"}, "exit_confidence 'sure': give a number"),
        ({"exit_confidence": "nan"}, "exit_confidence nan"),
        ({"exit_confidence": 0}, "exit_confidence 0: give 0.01 to 1"),
        ({"thermal": "hot"}, "thermal 'hot': give auto or off"),
        ({"servers": "localhost:1,"}, "give one or more"),
        ({"servers": "localhost:1,localhost:1"}, "localhost:1 is listed twice"),
        ({"servers": "localhost:1,10.0.0.7"}, "server '10.0.0.7': give HOST:PORT"),
        ({"failback": "-1s"}, "duration '-1s'"),
    ],
)
def test_bad_values_of_the_newer_settings(flags, message):
    with pytest.raises(InputError, match=message):
        read_config({"source": "digits", **flags}, environ={})
