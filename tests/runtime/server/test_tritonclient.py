"""Triton's own client drives our server, in the process in which our stubs are loaded as well."""

import asyncio
import queue

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


@pytest.fixture
async def ask(tiny_server):
    """Return `await ask(function)`, which calls `function(client)` in a thread, for the client blocks."""

    async def run(function):
        def with_client():
            client = triton.InferenceServerClient(f"127.0.0.1:{tiny_server.port}")
            try:
                return function(client)
            finally:
                client.close()

        return await asyncio.to_thread(with_client)

    return run


def _latent(latents):
    tensor = triton.InferInput("latent", latents.shape, "UINT8")
    tensor.set_data_from_numpy(latents)
    return [tensor]


def _payload(*payloads):
    tensor = triton.InferInput("payload", [len(payloads)], "BYTES")
    tensor.set_data_from_numpy(np.array(payloads, dtype=np.object_))
    return [tensor]


async def test_it_finds_a_live_and_ready_server_with_metadata(ask):
    def look(client):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tiny")
        return client.get_server_metadata(as_json=True), client.get_model_metadata("tiny", as_json=True)

    server, model = await ask(look)
    assert server["name"] == "isthmus"
    assert model["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": ["-1", "3"]}]


@pytest.mark.parametrize("form", ["latent", "payload"])
async def test_infer(ask, samples, form):
    inputs = (
        _latent(samples.latents[:2]) if form == "latent" else _payload(samples.payload(0), samples.payload(1))
    )
    result = await ask(
        lambda client: client.infer(
            "tiny", inputs, request_id="r1", outputs=[triton.InferRequestedOutput("logits")]
        )
    )
    np.testing.assert_allclose(result.as_numpy("logits"), samples.outputs[:2], rtol=1e-4, atol=1e-5)
    assert result.get_response().id == "r1"
    assert result.get_response().parameters["isthmus_outcome"].string_param == "ok"


@pytest.mark.parametrize("form", ["latent", "payload"])
async def test_stream_infer(ask, samples, form):
    def stream(client):
        answers = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for index in range(4):
            inputs = (
                _latent(samples.latents[index : index + 1])
                if form == "latent"
                else _payload(samples.payload(index))
            )
            client.async_stream_infer("tiny", inputs, request_id=str(index))
        found = [answers.get(timeout=20) for _ in range(4)]
        client.stop_stream()
        return found

    found = await ask(stream)
    assert [error for _, error in found] == [None] * 4
    outputs = {result.get_response().id: result.as_numpy("logits") for result, _ in found}
    for index in range(4):
        np.testing.assert_allclose(
            outputs[str(index)], samples.outputs[index : index + 1], rtol=1e-4, atol=1e-5
        )


async def test_an_expired_frame_is_a_result_without_outputs(ask, samples):
    def stream(client):
        answers = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(
            "tiny", _latent(samples.latents[:1]), request_id="1", parameters={"isthmus_budget_us": -1}
        )
        client.async_stream_infer("tiny", _latent(samples.latents[:1]), request_id="2")
        found = [answers.get(timeout=20) for _ in range(2)]
        client.stop_stream()
        return found

    found = await ask(stream)
    assert [error for _, error in found] == [None, None]
    outputs = {result.get_response().id: result.as_numpy("logits") for result, _ in found}
    assert outputs["1"] is None
    assert outputs["2"].shape == (1, 3)


async def test_a_malformed_frame_reaches_the_callback_with_its_message(ask, samples):
    def stream(client):
        answers = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("tiny", _latent(np.zeros((1, 9, 4, 4), np.uint8)), request_id="1")
        found = [answers.get(timeout=20) for _ in range(2)]
        client.stop_stream()
        return found

    (_, in_message), (_, as_status) = await ask(stream)
    text = "input 'latent': shape [1, 9, 4, 4] does not fit model 'tiny', which takes [n, 1 to 4, 4, 4]"
    assert in_message.message() == as_status.message() == text
    assert as_status.status() == "StatusCode.INVALID_ARGUMENT"


async def test_errors_of_infer_carry_status_and_message(ask, samples):
    with pytest.raises(InferenceServerException) as refused:
        await ask(lambda client: client.infer("huge", _latent(samples.latents[:1])))
    assert refused.value.status() == "StatusCode.NOT_FOUND"
    assert refused.value.message() == "unknown model 'huge'; this server has 'tiny'"
