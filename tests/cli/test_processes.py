"""Child processes end with the process that started them."""

import os
import signal
import subprocess
import sys

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
