"""KServe's client drives our server, in one process with our own stubs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import isthmus

REPOSITORY = Path(isthmus.__file__).resolve().parents[1]


@pytest.fixture
def our_server(split_bundle, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "isthmus", "serve", split_bundle.root, "--port", "0", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield f"127.0.0.1:{json.loads(process.stdout.readline())['port']}"
    process.terminate()
    process.communicate(timeout=60)


def test_its_client_and_ours_in_one_process_get_the_same_answers(
    our_server, peer_environment, golden, tmp_path
):
    latents, outputs = golden
    np.save(tmp_path / "latents.npy", latents)
    script = Path(__file__).with_name("kserve_client.py")
    result = subprocess.run(
        [peer_environment("kserve") / "bin/python", script, our_server, tmp_path / "latents.npy"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    assert {key: said["kserve"][key] for key in ("live", "ready", "model", "id")} == {
        "live": True,
        "ready": True,
        "model": True,
        "id": "k1",
    }
    for client in ("kserve", "ours"):
        np.testing.assert_allclose(said[client]["outputs"], outputs, rtol=1e-4, atol=1e-5)
