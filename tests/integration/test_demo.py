"""The whole path once, in real processes, trained for seconds only."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isthmus.runtime.events import EndEvent, FrameEvent, RunEvent, read_events

# The whole path, on a machine that may be several times slower than a desk's and busy.
pytestmark = pytest.mark.timeout(300)


def run_demo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "isthmus", "demo", *arguments]
    # Where there is a display, the dashboard's page would be opened on it.
    environment = {**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=280, check=False, env=environment
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("demo")
    arguments = ["--quick", "--trace", "step:20kB@2s,0B@1s,20kB@1s", "--out", "out", "--json"]
    result = run_demo(*arguments, "--dashboard", "--duration", "4s", cwd=root)
    assert result.returncode == 0, result.stderr
    # The page's address with the token; whoever reads the log of the demo later finds nobody there any more.
    assert re.search(r"open http://127\.0\.0\.1:\d+/#token=[0-9a-f]{48} ", result.stderr)
    summary: dict[str, Any] = json.loads(result.stdout)  # one object, whatever the verbs printed
    return root / "out", summary


def test_every_frame_of_the_demo_ends_once(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = demo
    events = list(read_events(folder / "events.jsonl"))
    frames = [event for event in events if isinstance(event, FrameEvent)]
    end = events[-1]
    assert isinstance(events[0], RunEvent)
    assert isinstance(end, EndEvent)
    assert end.captured == len(frames) == sum(end.outcomes.values()) == 80
    assert len({frame.frame for frame in frames}) == 80
    assert end.outcomes["remote"] > 20
    # The second without a link: the device answers, in time.
    assert end.outcomes["exit"] >= 15


def test_the_demo_leaves_a_report_and_everything_it_came_from(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = demo
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "captured frames ended exactly once" in page
    assert "on the same frames" in page
    assert set(summary["timings_s"]) == {"teacher", "partition", "train", "export", "run"}
    assert (folder / "plan.json").is_file()
    assert (folder / "bundle" / "manifest.json").is_file()
    assert (folder / "link.jsonl").is_file()


def test_the_demo_does_not_touch_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    mine = tmp_path / "train" / "cat" / "1.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    result = run_demo("--out", ".", cwd=tmp_path)
    assert result.returncode == 3
    assert "choose a new or empty --out folder" in result.stderr
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--deadline", "soon"], "duration 'soon'"),
        (["--deadline", "0s"], "deadline"),
        (["--trace", "nowhere.up"], "nowhere.up"),
        (["--dataset", "npz:x.npz"], "give --test npz:FILE"),
        (["--dataset", "mnist"], "data set 'mnist'"),
        (["--fps", "5000"], "fps"),
    ],
)
def test_errors_come_before_the_training(arguments: list[str], says: str, tmp_path: Path) -> None:
    result = run_demo(*arguments, "--out", "out", cwd=tmp_path)
    assert result.returncode == 3
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert not (tmp_path / "out").exists()
