"""Real servers of other makers, each started in its own environment on loopback; `scripts/peers` makes those.

They are synchronised by what they answer: a server is there when it says that the model is ready.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import grpc
import msgspec
import numpy as np
import pytest

import isthmus
from isthmus.runtime.bundle import LOCAL, POINTS, load_bundle, write_manifest
from isthmus.runtime.events import EndEvent, FrameEvent, LinkEvent, read_events
from isthmus.runtime.server.hosting import write_mlserver_folder, write_triton_repository
from isthmus.runtime.wire import InferenceStub, oip

REPOSITORY = Path(isthmus.__file__).resolve().parents[1]
PEERS = Path(os.environ.get("ISTHMUS_PEERS", REPOSITORY / ".venv-peers")).absolute()
PATIENCE_S = 60


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.peers)


def environment_of(name):
    folder = PEERS / name
    if not (folder / ".installed").is_file():
        pytest.skip(f"{folder} is not there; scripts/peers makes it")
    return folder


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """One server of another maker: a command that can be run again on the same ports."""

    def __init__(self, command, environment, folder, port, log):
        self.port, self.log = port, log
        self.address = f"127.0.0.1:{port}"
        self._command, self._environment, self.folder = command, environment, folder
        self._process = None

    def start(self):
        """Run it and wait until the model takes frames."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end_s = time.monotonic() + PATIENCE_S
        with grpc.insecure_channel(self.address) as channel:
            stub = InferenceStub(channel)
            while not self._ready(stub):
                assert self._process.poll() is None, self.log.read_text()[-3000:]
                assert time.monotonic() < end_s, self.log.read_text()[-3000:]
                time.sleep(0.1)
        return self

    def ask(self, method, request):
        """Return the answer to one call."""
        with grpc.insecure_channel(self.address) as channel:
            return getattr(InferenceStub(channel), method)(request, timeout=PATIENCE_S)

    def kill(self):
        """Kill it and what it started, as a crash does."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE_S)

    @staticmethod
    def _ready(stub):
        try:
            return stub.ModelReady(oip.ModelReadyRequest(name="tiny"), timeout=2).ready
        except grpc.RpcError:
            return False


@pytest.fixture(scope="session")
def peer_environment():
    """Return `environment(name)`, the folder of a peer's virtual environment; skips if it is not there."""
    return environment_of


@pytest.fixture(scope="session")
def split_bundle(make_tiny_bundle, tmp_path_factory):
    """A bundle without local.onnx, with which the device would be as good as the server and send nothing."""
    root = make_tiny_bundle(tmp_path_factory.mktemp("split") / "tiny")
    bundle = load_bundle(root)
    (root / LOCAL).unlink()
    table = msgspec.structs.replace(bundle.points, local=None)
    (root / POINTS).write_bytes(msgspec.json.encode(table))
    write_manifest(root, bundle.manifest)
    return load_bundle(root)


@pytest.fixture(scope="session")
def frames_npz(tiny_images, tmp_path_factory):
    images, labels = tiny_images
    path = tmp_path_factory.mktemp("frames") / "frames.npz"
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture
def start_triton(split_bundle, tmp_path):
    """Return `start(change)`: Triton with what `isthmus export --triton` writes, after `change(folder)`."""
    running = []
    environment = environment_of("triton")

    def start(change=None):
        repository = tmp_path / f"repository{len(running)}"
        folder = write_triton_repository(split_bundle, repository, backend="python")
        if change is not None:
            change(folder)
        running.append(_triton(environment, repository, tmp_path / f"triton{len(running)}.log"))
        return running[-1].start()

    yield start
    for peer in running:
        peer.kill()


def _triton(environment, repository, log):
    (site,) = environment.glob("lib/python3.*/site-packages")
    python = environment / "bin/python"
    library = subprocess.run(
        [python, "-c", 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    port = _free_port()
    command = [
        site / "pytriton/tritonserver/bin/tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={environment / 'backends'}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--allow-http=false",
        "--allow-metrics=false",
        "--model-control-mode=explicit",
        "--load-model=tiny",
    ]
    variables = {
        **os.environ,
        "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{library}",
        # The backend's embedded Python looks for its own environment on the path alone.
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    return Peer(command, variables, repository, port, log)


@pytest.fixture
def start_mlserver(split_bundle, tmp_path):
    """Return `start(**settings)`: MLServer with what `isthmus export --mlserver` writes."""
    running = []
    environment = environment_of("mlserver")

    def start(**settings):
        folder = tmp_path / f"mlserver{len(running)}"
        write_mlserver_folder(split_bundle, folder)
        port = _free_port()
        told = {
            "host": "127.0.0.1",
            "grpc_port": port,
            "http_port": _free_port(),
            "metrics_endpoint": None,
            "parallel_workers": 0,
            "debug": False,
            **settings,
        }
        (folder / "settings.json").write_text(json.dumps(told))
        running.append(
            Peer(
                [environment / "bin/mlserver", "start", str(folder)],
                {**os.environ, "OMP_NUM_THREADS": "1"},
                folder,
                port,
                tmp_path / f"mlserver{len(running)}.log",
            )
        )
        return running[-1].start()

    yield start
    for peer in running:
        peer.kill()


class Agent:
    """A running `isthmus agent` and its event log."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def frames(self):
        """Return the frames ended so far; the log is being written."""
        if not self.log.exists():
            return []
        return [event for event in read_events(self.log) if isinstance(event, FrameEvent)]

    def wait(self, outcome, count, *, after=-1):
        """Wait until `count` frames later than `after` have ended as `outcome`; return the last frame."""
        end_s = time.monotonic() + PATIENCE_S
        while sum(event.outcome == outcome and event.frame > after for event in self.frames()) < count:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end_s, f"no {count} {outcome} frames; see {self.log}"
            time.sleep(0.05)
        return self.frames()[-1].frame

    def stop(self):
        """Stop it; return its frames, the end, and what it said. Every captured frame has ended once."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, said
        events = list(read_events(self.log))
        frames = sorted((e for e in events if isinstance(e, FrameEvent)), key=lambda event: event.frame)
        end = events[-1]
        assert isinstance(end, EndEvent)
        assert [event.frame for event in frames] == list(range(end.captured))
        assert Counter(event.outcome for event in frames) == Counter(end.outcomes)
        assert sum(end.outcomes.values()) == end.captured
        links = [event for event in events if isinstance(event, LinkEvent)]
        return frames, end, links, said


@pytest.fixture
def start_agent(split_bundle, frames_npz, tmp_path):
    """Return `start(address, *flags)`, a real agent process of 20 frames a second."""
    running = []

    def start(address, *flags, fps=20, deadline="250ms"):
        log = tmp_path / f"events{len(running)}.jsonl"
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        arguments = [split_bundle.root, "--server", address, "--source", f"npz:{frames_npz}"]
        arguments += ["--fps", fps, "--deadline", deadline, "--events", log, "--json", *flags]
        process = subprocess.Popen(
            [sys.executable, "-m", "isthmus", "agent", *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(Agent(process, log))
        return running[-1]

    yield start
    for agent in running:
        if agent.process.poll() is None:
            agent.process.kill()
        agent.process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def golden(split_bundle):
    """Return latents uint8 [n,4,4,4] of the widest head and what the tail must answer, float32 [n,3]."""
    with np.load(split_bundle.root / "golden/golden.npz") as stored:
        return stored["latents_3"], stored["outputs_3_4"]
