"""Child processes end with the process that started them."""

import os
import signal
import subprocess
import sys

import pytest

from isthmus.cli._processes import Children
from isthmus.runtime.errors import NetworkError

_PARENT = """
import sys, time
from pathlib import Path
from isthmus.cli import _processes

def link():
    with _processes.Children() as children:
        children.start_service(["link", "--target", "127.0.0.1:9", "--json"], Path(sys.argv[1]))
        print(children._running[0].pid, flush=True)
        time.sleep(60)

try:
    link()
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_sigterm_takes_the_children_along(tmp_path):
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "link.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(20) == 130
    # The parent has waited for it, so its number is gone too, not only its life.
    try:
        os.kill(child, 0)
    except ProcessLookupError:
        return
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the child lives on")


def test_a_service_that_ends_is_reported_at_once_with_its_words(tmp_path):
    log = tmp_path / "link.log"
    broken = ["link", "--target", "127.0.0.1:1", "--trace", "nosuch", "--json"]
    with Children() as children, pytest.raises(NetworkError) as kept:
        children.start_service(broken, log)
    assert "isthmus link did not become ready: error: trace 'nosuch'" in str(kept.value)
    assert str(kept.value).endswith(f"(all of it: {log})")
    with Children() as children, pytest.raises(NetworkError) as unkept:
        children.start_service(broken)
    assert str(kept.value) == f"{unkept.value} (all of it: {log})"


def test_a_log_that_nobody_can_read_up_is_quoted_at_length():
    with Children() as children, pytest.raises(NetworkError) as refused:
        children.start_service(["link", "--nosuch"])
    # Typer's usage error has several lines.
    assert "Usage" in str(refused.value)
    assert "No such option" in str(refused.value)
