"""Start each server: ours, the floors, Triton, MLServer and LitServe, with a null tail or a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc

from _peers.children import Child, Cores, free_port, python
from _peers.places import HERE, environment
from isthmus.runtime.bundle import Bundle
from isthmus.runtime.errors import InputError
from isthmus.runtime.server.hosting import write_mlserver_folder, write_triton_repository
from isthmus.runtime.wire import InferenceStub, oip

_TRITON_CONFIG = """\
name: "null"
backend: "python"
max_batch_size: 0
input: [{ name: "latent" data_type: TYPE_UINT8 dims: [1, -1, 10, 10] }]
output: [{ name: "logits" data_type: TYPE_FP32 dims: [1, 10] }]
"""
_MLSERVER_MODEL = {
    "name": "null",
    "implementation": "mlserver_null.NullRuntime",
    "inputs": [{"name": "latent", "datatype": "UINT8", "shape": [1, -1, 10, 10]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [1, 10]}],
    "parameters": {"version": "1"},
}
# MLServer waits so long for company once a frame is there; its batching never starts without a window.
_MLSERVER_WINDOW_S = 0.001


def floor(kind: str, *, cores: Cores | None = None) -> Child:
    """Return an echo server, `kind` "tcp", "grpc" (its engine and loop as ours) or "grpc-plain"."""
    return Child(f"{kind} echo", python("echo_server", kind), cores=cores, tuned=kind == "grpc")


def ours_null(bundles: Sequence[Path], *arguments: object, cores: Cores | None = None) -> Child:
    """Return our server with null tails; `arguments` as `null_server.py` takes them."""
    return Child("isthmus (null)", python("null_server", *bundles, *arguments), cores=cores, tuned=True)


def ours(bundle: Bundle, *flags: object, cores: Cores | None = None) -> Child:
    """Return `isthmus serve` with the real tail of `bundle`."""
    command = [sys.executable, "-m", "isthmus", "serve", bundle.root, "--port", 0, "--json", *flags]
    return Child("isthmus", command, cores=cores, tuned=True)


def triton_null(folder: Path, *, cores: Cores | None = None) -> Child:
    """Return Triton with a null model `null` of its Python backend; its repository is made in `folder`."""
    model = folder / "null" / "1"
    model.mkdir(parents=True)
    (folder / "null" / "config.pbtxt").write_text(_TRITON_CONFIG)
    (model / "model.py").write_bytes((HERE / "null_models/triton_null.py").read_bytes())
    return _triton(folder, "null", cores)


def triton(bundle: Bundle, folder: Path, *, max_batch: int, cores: Cores | None = None) -> Child:
    """Return Triton with the tail of `bundle` in ONNX Runtime, batching as `isthmus export --triton` says."""
    write_triton_repository(bundle, folder, backend="python", max_batch=max_batch)
    return _triton(folder, bundle.manifest.name, cores)


def mlserver_null(folder: Path, *, cores: Cores | None = None) -> Child:
    """Return MLServer with a null model `null`; its folder is made in `folder`."""
    model = folder / "null"
    model.mkdir(parents=True)
    (model / "model-settings.json").write_text(json.dumps(_MLSERVER_MODEL))
    (model / "mlserver_null.py").write_bytes((HERE / "null_models/mlserver_null.py").read_bytes())
    return _mlserver(folder, "null", cores)


def mlserver(bundle: Bundle, folder: Path, *, max_batch: int, cores: Cores | None = None) -> Child:
    """Return MLServer with the tail of `bundle` in ONNX Runtime and its adaptive batching on."""
    model = write_mlserver_folder(bundle, folder)
    settings = json.loads((model / "model-settings.json").read_text())
    settings |= {"max_batch_size": max_batch, "max_batch_time": _MLSERVER_WINDOW_S}
    (model / "model-settings.json").write_text(json.dumps(settings))
    return _mlserver(folder, bundle.manifest.name, cores)


def litserve(tail: Path, *, max_batch: int, cores: Cores | None = None) -> Child:
    """Return LitServe with the ONNX file `tail` and its dynamic batching on."""
    port = free_port()
    command = python("litserve_app", tail, port, max_batch, executable=_python_of("litserve"))
    child = Child("LitServe", command, port=port, cores=cores)
    return _until(child, lambda: _http_ready(port))


def _triton(repository: Path, model: str, cores: Cores | None) -> Child:
    executable = _python_of("triton")
    folder = executable.parents[1]
    (site,) = folder.glob("lib/python3.*/site-packages")
    asked = 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))'
    library = subprocess.run([executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    port = free_port()
    command = [
        site / "pytriton/tritonserver/bin/tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={folder / 'backends'}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--allow-http=false",
        "--allow-metrics=false",
        "--model-control-mode=explicit",
        f"--load-model={model}",
    ]
    variables = {
        "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{library.strip()}",
        # The backend's embedded Python looks for its own environment on the path alone.
        "PATH": f"{executable.parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": "",
    }
    child = Child("Triton", command, port=port, environment=variables, folder=repository, cores=cores)
    return _until(child, lambda: _model_ready(child.address, model))


def _mlserver(folder: Path, model: str, cores: Cores | None) -> Child:
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "grpc_port": port,
        "http_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [_python_of("mlserver").with_name("mlserver"), "start", folder]
    child = Child("MLServer", command, port=port, environment={"PYTHONPATH": ""}, folder=folder, cores=cores)
    return _until(child, lambda: _model_ready(child.address, model))


def _python_of(name: str) -> Path:
    folder = environment(name)
    if folder is None:
        raise InputError(f"the environment of {name} is not there; scripts/peers --setup makes it")
    return folder / "bin/python"


def _until(child: Child, ready: Callable[[], bool]) -> Child:
    try:
        return child.wait_until(ready)
    except BaseException:
        child.end()
        raise


def _model_ready(address: str, model: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            ready: bool = (
                InferenceStub(channel).ModelReady(oip.ModelReadyRequest(name=model), timeout=2).ready
            )
        except grpc.RpcError:
            return False
        return ready


def _http_ready(port: int) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
