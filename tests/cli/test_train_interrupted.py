"""Real processes that real signals end: what they leave behind goes on to the very same checkpoint."""

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isthmus.cli import run

_STEPS = 24 * 3


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    pixels = random.integers(0, 100, (60, 16, 16)) + 100 * labels[:, None, None]
    classes = np.array(["dark", "bright"])
    np.savez(tmp_path / "images.npz", images=pixels.astype(np.uint8), labels=labels, classes=classes)
    size = ["--encoder", "8x0,8x0", "--decoder", "16x0", "--channels", "4", "--exit-channels", "0"]
    course = ["--epochs", "24", "--batch-size", "16", "--teacher-epochs", "1", "--average", "0.99"]
    machine = ["--threads", "1", "--precision", "float32", "--json"]
    data = ["--dataset", f"npz:{tmp_path / 'images.npz'}", "--cut", "stage2"]
    return ["train", *data, *size, *course, *machine]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGKILL, -signal.SIGKILL),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_process_goes_on_to_the_same_checkpoint(
    flags: list[str], number: signal.Signals, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*flags, "--out", str(tmp_path / "whole")]) == 0
    whole = json.loads(capsys.readouterr().out)
    out = tmp_path / "interrupted"
    command = [sys.executable, "-c", "from isthmus.cli import main; main()", *flags, "--out", str(out)]
    command += ["--state-minutes", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        # The line of the second epoch; the third is under way by now.
        said = "".join(itertools.takewhile(lambda line: "epoch 2/" not in line, process.stderr))
        process.send_signal(number)
        said += process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not (out / "checkpoint.pt").exists()
    if number != signal.SIGKILL:
        assert "--resume" in said
    # Everything else is in the run's own config.toml.
    assert run(["train", "--resume", "--out", str(out), "--state-minutes", "10", "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert resumed["digest"] == whole["digest"]
    assert resumed["steps"] == whole["steps"] == str(_STEPS)
