"""The agent in an environment that holds the core install alone. Run by scripts/edge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.edge


@pytest.fixture
def edge_python() -> str:
    python = os.environ.get("ISTHMUS_EDGE_PYTHON")
    if not python:
        pytest.skip("ISTHMUS_EDGE_PYTHON is not set; run scripts/edge")
    return python


@pytest.mark.parametrize("module", ["torch", "onnx", "sklearn", "matplotlib"])
def test_training_libraries_are_absent(edge_python: str, module: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [edge_python, "-c", f"import {module}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert f"No module named '{module}'" in result.stderr


def test_training_verb_names_the_extra(edge_python: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [edge_python, "-m", "isthmus", "train", "--dataset", "digits", "--out", "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 6
    assert "isthmus[train]" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bundle_is_profiled_and_a_plain_network_says_what_is_missing(
    edge_python: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    flags = ["--duration", "50ms", "--warm-up", "50ms", "--energy", "none", "--json"]

    def profile(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [edge_python, "-m", "isthmus", "profile", *arguments, *flags]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    done = profile(str(tiny_bundle), "--machine", "machine.json", "--trace", "trace.json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {one["way"]["kind"] for one in found["figures"]} == {"payload", "exit", "uncut"}
    assert (tmp_path / "machine.json").is_file()
    plain = profile(str(tiny_bundle / "tail.onnx"))
    assert plain.returncode == 0, plain.stderr
    assert json.loads(plain.stdout)["figures"][0]["frames"] >= 100
    assert "isthmus[partition]" in plain.stderr
    asked = profile(str(tiny_bundle / "tail.onnx"), "--machine", "other.json")
    assert asked.returncode == 6
    assert "isthmus[partition]" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_agent_runs_against_a_server(edge_python: str, tiny_bundle: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.zeros(20, dtype=np.int64))
    server = subprocess.Popen(
        [sys.executable, "-m", "isthmus", "serve", str(tiny_bundle), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        arguments = ["--server", f"127.0.0.1:{port}", "--source", f"npz:{tmp_path / 'images.npz'}"]
        # The tiny bundle's local network is as good as its tail: the default policy would stay at home.
        arguments += [
            "--policy",
            "fixed:3,4",
            "--fps",
            "20",
            "--deadline",
            "250ms",
            "--frames",
            "60",
            "--json",
        ]
        arguments += ["--events", str(tmp_path / "events.jsonl")]
        agent = subprocess.run(
            [edge_python, "-m", "isthmus", "agent", str(tiny_bundle), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        server.terminate()
        server.communicate(timeout=20)
    assert agent.returncode == 0, agent.stderr
    summary = json.loads(agent.stdout)
    assert summary["captured"] == 60 == sum(summary["outcomes"].values())
    assert summary["outcomes"]["remote"] > 0
