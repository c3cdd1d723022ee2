"""Triton's extensions, asked by Triton's own client: configuration, statistics, repository of models."""

import shutil

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from isthmus.runtime.bundle import load_bundle
from isthmus.runtime.wire import SERVICE_NAME


@pytest.fixture
async def connect():
    """Return `connect(server)`, an aio client of Triton's; it is closed at the end."""
    clients = []

    def open_client(server):
        clients.append(triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}"))
        return clients[-1]

    yield open_client
    for client in clients:
        await client.close()


def _latent(latents):
    tensor = triton.InferInput("latent", latents.shape, "UINT8")
    tensor.set_data_from_numpy(latents)
    return [tensor]


async def test_the_configuration_is_tritons(tiny_server, connect, tiny_bundle):
    config = (await connect(tiny_server).get_model_config("tiny")).config
    assert isinstance(config, model_config_pb2.ModelConfig)
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "isthmus", 32)
    latent, payload = config.input
    assert (latent.name, latent.data_type, list(latent.dims)) == (
        "latent",
        model_config_pb2.TYPE_UINT8,
        [4, 4, 4],
    )
    assert (payload.name, payload.data_type, list(payload.dims)) == (
        "payload",
        model_config_pb2.TYPE_STRING,
        [],
    )
    assert latent.optional
    assert payload.optional
    (scores,) = config.output
    assert (scores.name, scores.data_type, list(scores.dims)) == ("logits", model_config_pb2.TYPE_FP32, [3])
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 256
    assert list(config.version_policy.specific.versions) == [1]
    assert config.parameters["isthmus_bundle"].string_value == load_bundle(tiny_bundle).digest
    assert config.parameters["isthmus_provider"].string_value == "CPUExecutionProvider"
    (group,) = config.instance_group
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_CPU


async def test_requests_latents_and_batches_are_counted(tiny_server, connect, samples):
    client = connect(tiny_server)
    before = (await client.get_inference_statistics("tiny")).model_stats[0]
    assert (before.inference_count, before.execution_count, before.last_inference) == (0, 0, 0)
    for rows in (1, 3, 3):
        await client.infer("tiny", _latent(samples.latents[:rows]))
    with pytest.raises(InferenceServerException):
        await client.infer("tiny", _latent(np.zeros((1, 9, 4, 4), np.uint8)))
    (after,) = (await client.get_inference_statistics("tiny")).model_stats
    assert (after.name, after.version) == ("tiny", "1")
    assert (after.inference_count, after.execution_count) == (7, 3)
    stats = after.inference_stats
    assert (stats.success.count, stats.fail.count) == (3, 1)
    assert stats.queue.count == stats.compute_infer.count == stats.compute_input.count == 3
    assert 0 < stats.compute_infer.ns <= stats.success.ns
    assert stats.queue.ns + stats.compute_input.ns + stats.compute_infer.ns <= stats.success.ns
    assert {batch.batch_size: batch.compute_infer.count for batch in after.batch_stats} == {1: 1, 3: 2}
    assert after.last_inference > 1_500_000_000_000


async def test_statistics_of_all_models_and_of_one_that_is_not_there(
    start_server, connect, tiny_bundle, make_tiny_bundle, tmp_path
):
    client = connect(await start_server(tiny_bundle, make_tiny_bundle(tmp_path / "second", name="second")))
    assert [one.name for one in (await client.get_inference_statistics()).model_stats] == ["second", "tiny"]
    with pytest.raises(InferenceServerException, match="unknown model 'huge'") as refused:
        await client.get_inference_statistics("huge")
    assert refused.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException, match="unknown model 'huge'"):
        await client.get_model_config("huge")


async def test_models_are_listed_unloaded_and_loaded(
    start_server, connect, tiny_bundle, make_tiny_bundle, tmp_path, samples
):
    repository = tmp_path / "repository"
    make_tiny_bundle(repository / "second", name="second")
    client = connect(await start_server(tiny_bundle, repository=repository))

    async def index():
        listed = await client.get_model_repository_index()
        return [(model.name, model.version, model.state, model.reason) for model in listed.models]

    assert await index() == [("second", "1", "READY", ""), ("tiny", "1", "READY", "")]
    await client.unload_model("second")
    assert await index() == [("second", "1", "UNAVAILABLE", "unloaded"), ("tiny", "1", "READY", "")]
    assert not await client.is_model_ready("second")
    with pytest.raises(InferenceServerException, match="unknown model 'second'"):
        await client.infer("second", _latent(samples.latents[:1]))
    await client.load_model("second")
    assert await client.is_model_ready("second")
    assert (await client.infer("second", _latent(samples.latents[:1]))).as_numpy("logits").shape == (1, 3)
    assert (await client.get_inference_statistics("second")).model_stats[0].inference_count == 1


async def test_a_new_bundle_in_the_repository_can_be_loaded_and_a_spoilt_one_cannot(
    start_server, connect, tiny_bundle, make_tiny_bundle, tmp_path
):
    repository = tmp_path / "repository"
    repository.mkdir()
    client = connect(await start_server(tiny_bundle, repository=repository))
    make_tiny_bundle(repository / "late", name="late", seed=3)
    digest = load_bundle(repository / "late").digest
    await client.load_model("late")
    config = (await client.get_model_config("late")).config
    assert config.parameters["isthmus_bundle"].string_value == digest
    (repository / "late/tail.onnx").write_bytes(b"spoilt")
    with pytest.raises(InferenceServerException, match="SHA-256 differs") as refused:
        await client.load_model("late")
    assert refused.value.status() == "StatusCode.FAILED_PRECONDITION"
    assert await client.is_model_ready("late")
    shutil.rmtree(repository / "late")
    with pytest.raises(InferenceServerException, match="unknown model 'late'") as unknown:
        await client.load_model("late")
    assert unknown.value.status() == "StatusCode.NOT_FOUND"


async def test_files_in_the_message_are_not_loaded(tiny_server, connect):
    client = connect(tiny_server)
    with pytest.raises(
        InferenceServerException, match="a bundle is loaded from the server's disk"
    ) as refused:
        await client.load_model("tiny", config="{}", files={"file:1/model.onnx": b"x"})
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert await client.is_model_ready("tiny")


async def test_kserves_load_message_names_the_model_in_its_first_field(tiny_server):
    path = f"/{SERVICE_NAME}/RepositoryModelUnload"
    call = tiny_server.channel.unary_unary(path)
    assert await call(b"\x0a\x04tiny") == b""  # field 1, a string: KServe's model_name
    ready = tiny_server.channel.unary_unary(f"/{SERVICE_NAME}/ModelReady")
    answer = await ready(service_pb2.ModelReadyRequest(name="tiny").SerializeToString())
    assert not service_pb2.ModelReadyResponse.FromString(answer).ready


UNIMPLEMENTED = [
    (lambda client: client.get_system_shared_memory_status(), "no shared memory"),
    (lambda client: client.register_system_shared_memory("r", "/r", 8), "no shared memory"),
    (lambda client: client.unregister_system_shared_memory("r"), "no shared memory"),
    (lambda client: client.get_cuda_shared_memory_status(), "no shared memory"),
    (lambda client: client.register_cuda_shared_memory("r", b"AA==", 0, 8), "no shared memory"),
    (lambda client: client.unregister_cuda_shared_memory("r"), "no shared memory"),
    (lambda client: client.get_trace_settings("tiny"), "no trace settings"),
    (lambda client: client.update_trace_settings("tiny", {"trace_rate": "1"}), "no trace settings"),
    (lambda client: client.get_log_settings(), "log settings cannot be changed"),
    (lambda client: client.update_log_settings({"log_info": False}), "log settings cannot be changed"),
]


@pytest.mark.parametrize(("call", "why"), UNIMPLEMENTED)
async def test_what_is_not_here_says_why(tiny_server, connect, call, why):
    with pytest.raises(InferenceServerException, match=why) as refused:
        await call(connect(tiny_server))
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"


async def test_the_aio_client_infers_and_streams(tiny_server, connect, samples):
    client = connect(tiny_server)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    metadata = await client.get_server_metadata()
    assert {"model_configuration", "model_repository", "statistics"} <= set(metadata.extensions)

    async def requests():
        for index in range(3):
            yield {
                "model_name": "tiny",
                "inputs": _latent(samples.latents[index : index + 1]),
                "request_id": str(index),
            }

    outputs = {}
    async for result, error in client.stream_infer(requests()):
        assert error is None
        outputs[result.get_response().id] = result.as_numpy("logits")
    for index in range(3):
        np.testing.assert_allclose(
            outputs[str(index)], samples.outputs[index : index + 1], rtol=1e-4, atol=1e-5
        )


async def test_bytes_that_are_no_message_are_refused_here_too(tiny_server):
    for method in ("ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await tiny_server.channel.unary_unary(f"/{SERVICE_NAME}/{method}")(b"\xff\xff\xff")
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
