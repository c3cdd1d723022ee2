from __future__ import annotations

import subprocess
import sys

import pytest

from isthmus.runtime import grpc_engine
from isthmus.runtime.grpc_engine import EXPERIMENTS, OLDER_ENGINE, choose_grpc_engine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="tried on Linux alone")


def chosen(version: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> str | None:
    monkeypatch.setattr(grpc_engine, "version", lambda name: version)
    choose_grpc_engine(environment)
    return environment.get(EXPERIMENTS)


@pytest.mark.parametrize("version", ["1.81.1", "1.85.1"])
def test_a_release_that_has_the_switch_is_told(version, monkeypatch):
    assert chosen(version, monkeypatch) == OLDER_ENGINE


@pytest.mark.parametrize("version", ["1.80.2", "1.86.0", "2.0.0", "1.x"])
def test_one_that_may_not_have_it_is_left_alone(version, monkeypatch):
    assert chosen(version, monkeypatch) is None


@pytest.mark.parametrize("wish", ["", "event_engine_client", "-event_engine_client"])
def test_what_the_user_says_stands(wish, monkeypatch):
    assert chosen("1.85.1", monkeypatch, GRPC_EXPERIMENTS=wish) == wish


def test_grpc_knows_the_switch_it_is_given():
    # It says so on standard error if not, and only at its first use.
    program = (
        "from isthmus.runtime.grpc_engine import choose_grpc_engine\n"
        "choose_grpc_engine()\n"
        "import os, grpc\n"
        "print(os.environ.get('GRPC_EXPERIMENTS'))\n"
        "grpc.insecure_channel('127.0.0.1:1').close()\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "experiment" not in ran.stderr.lower()
    unknown = program.replace(
        "import os, grpc", "import os; os.environ['GRPC_EXPERIMENTS'] = 'nonsense'; import grpc"
    )
    ran = subprocess.run([sys.executable, "-c", unknown], capture_output=True, text=True, check=True)
    assert "Unknown experiment: nonsense" in ran.stderr
