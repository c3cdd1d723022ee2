"""The unit's text, and what is said against it."""

import configparser
import shutil
import sys
from pathlib import Path

import pytest

from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.operation.service import present_groups, unit_text, unreadable, verify_unit
from isthmus.runtime.errors import InputError

FILE = Path("/etc/isthmus/agent.toml")


def _config(**changes):
    return AgentConfig(**{"source": "camera:0", "bundle": Path("/srv/bundle"), **changes})


def _parsed(text):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    return parser


def test_the_service_notifies_restarts_and_is_confined():
    unit = _parsed(unit_text(_config(), FILE, name="isthmus-agent"))
    service = unit["Service"]
    assert service["ExecStart"] == f"{sys.executable} -m isthmus agent run --config {FILE} --quiet"
    assert (service["Type"], service["Restart"], service["DynamicUser"]) == ("notify", "on-failure", "yes")
    assert int(service["WatchdogSec"]) > 30  # the agent gives a stuck head up after 30 s
    assert service["RestartPreventExitStatus"].split() == ["2", "3", "4", "6"]
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
    assert service["StateDirectory"] == "isthmus-agent"
    assert service["Environment"] == "ISTHMUS_AGENT_STATUS=%t/isthmus-agent/status.json"
    assert "ReadWritePaths" not in service
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_what_the_agent_writes_is_opened_and_nothing_else():
    config = _config(events=Path("/var/log/edge/e.jsonl"), status=Path("/run/x y/s.json"), results="-")
    service = _parsed(unit_text(config, FILE, name="cam-1", user="edge", groups=("video",)))["Service"]
    assert service["ReadWritePaths"] == '"/run/x y" /var/log/edge'
    assert service["User"] == "edge"
    assert "DynamicUser" not in service
    assert service["Environment"] == "PYTHONUNBUFFERED=1"
    assert service["SupplementaryGroups"] == "video"
    assert service["StateDirectory"] == "cam-1"


def test_what_systemd_would_expand_is_escaped():
    config = _config(bundle=Path("/srv/100%$x"))
    service = _parsed(unit_text(config, Path("/etc/a %i.toml"), name="a"))
    assert service["Service"]["ExecStart"].endswith('--config "/etc/a %%i.toml" --quiet')
    assert service["Unit"]["Description"] == "Isthmus agent for 100%%$$x"


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"bundle": None}, "a", "has no bundle"),
        ({"bundle": Path("bundle")}, "a", "bundle 'bundle' is relative"),
        ({"events": Path("e.jsonl")}, "a", "events 'e.jsonl' is relative"),
        ({"results": "answers.jsonl"}, "a", "results 'answers.jsonl' is relative"),
        ({}, "a/b", "--name 'a/b'"),
        ({}, "", "--name ''"),
    ],
)
def test_settings_that_cannot_be_a_service_are_refused(changes, name, message):
    with pytest.raises(InputError, match=message):
        unit_text(_config(**changes), FILE, name=name)


def test_what_a_service_could_not_read_is_said(tmp_path):
    told = unreadable(_config(bundle=tmp_path), tmp_path / "agent.toml")
    assert any("a service has a /tmp of its own" in line for line in told) is tmp_path.is_relative_to("/tmp")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    # The closed folder is one of the complaints wherever the temporary folder itself lies.
    told = unreadable(_config(bundle=closed / "b"), FILE)
    assert any(str(closed / "b") in line for line in told)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_has_nothing_against_the_unit_and_something_against_a_bad_one():
    text = unit_text(_config(), FILE, name="isthmus-agent", groups=present_groups())
    assert verify_unit(text, "isthmus-agent") == ()
    complaints = verify_unit(text.replace("Type=notify", "Type=nonsense"), "isthmus-agent")
    assert complaints
    assert "service type" in complaints[0]


def test_without_systemd_it_is_not_verified(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert verify_unit("", "a") is None


def test_only_groups_that_exist_are_named():
    assert present_groups(("root", "no-such-group-here")) == ("root",)
