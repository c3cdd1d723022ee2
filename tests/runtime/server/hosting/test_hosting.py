"""What is written for other servers; `tests/peers` has the servers themselves read it."""

import ast
import json

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from isthmus.runtime.bundle import TAIL, load_bundle
from isthmus.runtime.errors import BundleError, InputError
from isthmus.runtime.server.hosting import write_mlserver_folder, write_triton_repository
from isthmus.runtime.server.hosting.writing import copy_module


@pytest.fixture
def bundle(tiny_bundle):
    return load_bundle(tiny_bundle)


def _files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _config(folder):
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_tritons_own_message_reads_the_configuration(bundle, tmp_path):
    folder = write_triton_repository(bundle, tmp_path / "repository", max_batch=16, queue_frames=40)
    assert folder == tmp_path / "repository/tiny"
    assert _files(folder) == ["1/model.onnx", "config.pbtxt", "labels.txt"]
    config = _config(folder)
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", 16)
    (latent,), (scores,) = config.input, config.output
    assert (latent.name, latent.data_type, list(latent.dims)) == (
        "latent",
        model_config_pb2.TYPE_UINT8,
        [4, 4, 4],
    )
    assert (scores.name, scores.data_type, list(scores.dims)) == ("logits", model_config_pb2.TYPE_FP32, [3])
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (40, 0)
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.parameters["isthmus_bundle"].string_value == bundle.digest
    assert (folder / scores.label_filename).read_text().splitlines() == list(bundle.manifest.labels)
    assert (folder / "1/model.onnx").read_bytes() == bundle.read(TAIL)


def test_the_python_backend_gets_a_module_that_runs_the_same_file(bundle, tmp_path):
    folder = write_triton_repository(bundle, tmp_path, backend="python")
    assert _files(folder) == ["1/model.py", "1/tail.onnx", "config.pbtxt", "labels.txt"]
    assert _config(folder).backend == "python"
    assert (folder / "1/tail.onnx").read_bytes() == bundle.read(TAIL)


def test_mlserver_gets_settings_a_runtime_and_the_tail(bundle, tmp_path):
    folder = write_mlserver_folder(bundle, tmp_path)
    assert _files(folder) == ["isthmus_tail.py", "model-settings.json", "tail.onnx"]
    settings = json.loads((folder / "model-settings.json").read_text())
    assert settings["implementation"] == "isthmus_tail.TailRuntime"
    assert settings["inputs"] == [{"name": "latent", "datatype": "UINT8", "shape": [-1, 4, 4, 4]}]
    assert settings["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    assert settings["parameters"]["extra"] == {"isthmus_bundle": bundle.digest}
    assert (folder / "tail.onnx").read_bytes() == bundle.read(TAIL)


@pytest.mark.parametrize("name", ["triton_model", "mlserver_runtime"])
def test_what_other_servers_run_imports_nothing_of_ours(name):
    imported = set()
    for node in ast.walk(ast.parse(copy_module(name))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    assert "onnxruntime" in imported
    assert imported <= {
        "asyncio",
        "json",
        "mlserver",
        "numpy",
        "onnxruntime",
        "os",
        "triton_python_backend_utils",
    }


def test_a_model_that_is_there_is_replaced_and_its_neighbours_stay(bundle, tmp_path):
    write_triton_repository(bundle, tmp_path, backend="python")
    (tmp_path / "other").mkdir()
    folder = write_triton_repository(bundle, tmp_path)
    assert _files(folder) == ["1/model.onnx", "config.pbtxt", "labels.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "tiny"]


def test_a_folder_that_cannot_be_written_is_named(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/tiny: cannot be written: .*; name another"):
        write_mlserver_folder(bundle, tmp_path / "file")


@pytest.mark.parametrize(("max_batch", "queue_frames"), [(0, 10), (5000, 5000), (32, 31)])
def test_numbers_out_of_range_are_refused(bundle, tmp_path, max_batch, queue_frames):
    with pytest.raises(InputError, match=f"max batch {max_batch}, queue {queue_frames}: give"):
        write_triton_repository(bundle, tmp_path, max_batch=max_batch, queue_frames=queue_frames)


def test_a_tail_that_is_no_network_is_refused(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(type(bundle), "read", lambda self, name: b"not an ONNX file")
    with pytest.raises(BundleError, match=r"tail.onnx: ONNX Runtime cannot open it: "):
        write_triton_repository(bundle, tmp_path)
