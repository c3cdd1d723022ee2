"""Our agents on a real Triton, over its stream, with what `isthmus export --triton` writes."""

import re

import grpc
import numpy as np
import pytest

from isthmus.device_agents.doctor import examine_server
from isthmus.runtime.server.hosting import write_triton_repository
from isthmus.runtime.wire import InferenceStub, latent_request, oip, parse_answer

# What Triton does when it has to wait: one frame at a time, slowly, with room for one more.
SLOW = ("        latents = [", "        import time; time.sleep(0.15)\n        latents = [")


def _served(triton):
    response = triton.ask("ModelStatistics", oip.ModelStatisticsRequest(name="tiny"))
    return response.model_stats[0]


def test_it_serves_what_export_wrote(start_triton, golden, split_bundle):
    triton = start_triton()
    latents, outputs = golden
    request = latent_request(model="tiny", frame_id="7", latent_nchw=latents, budget_us=None)
    answer = parse_answer(triton.ask("ModelInfer", request))
    np.testing.assert_allclose(answer.outputs_nc, outputs, rtol=1e-4, atol=1e-5)
    config = triton.ask("ModelConfig", oip.ModelConfigRequest(name="tiny")).config
    assert (config.backend, config.max_batch_size) == ("python", 32)
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 256
    assert config.parameters["isthmus_bundle"].string_value == split_bundle.digest


def test_its_classification_names_the_labels(start_triton, golden, split_bundle):
    latents, outputs = golden
    request = latent_request(model="tiny", frame_id="1", latent_nchw=latents[:1], budget_us=None)
    request.outputs.add(name="logits").parameters["classification"].int64_param = 1
    answer = start_triton().ask("ModelInfer", request)
    (raw,) = answer.raw_output_contents
    best = int(outputs[0].argmax())
    assert raw[4:].decode().split(":")[1:] == [str(best), split_bundle.manifest.labels[best]]


async def test_the_doctor_finds_the_very_bundle(start_triton, split_bundle):
    triton = start_triton()
    findings = await examine_server(
        triton.address,
        model="tiny",
        manifest=split_bundle.manifest,
        digest=split_bundle.digest,
        deadline_s=1.0,
        timeout_s=10.0,
    )
    assert [finding.level for finding in findings] == ["ok", "ok", "ok"]
    assert re.match(r"triton [\d.]+: model 'tiny', plain latents over a stream", findings[0].text)
    assert "the same as here" in findings[1].text


def test_an_agent_streams_to_it(start_triton, start_agent):
    triton = start_triton()
    agent = start_agent(triton.address)
    agent.wait("remote", 60)
    _, end, _, said = agent.stop()
    assert "plain latents over a stream" in said
    assert end.reconnects == 0
    remote = end.outcomes["remote"]
    assert remote >= 0.8 * end.captured
    served = _served(triton)
    # A frame on its way when the agent stopped may be answered by the device.
    assert remote <= served.inference_stats.success.count <= end.captured
    assert served.inference_stats.fail.count == 0
    print(f"triton: {end.captured} frames, {dict(end.outcomes)}, {served.execution_count} batches")


def test_it_is_killed_and_started_again_in_the_middle_of_a_run(start_triton, start_agent):
    triton = start_triton()
    agent = start_agent(triton.address)
    agent.wait("remote", 15)
    triton.kill()
    last_before = agent.frames()[-1].frame
    agent.wait("exit", 20, after=last_before)
    triton.start()
    last_without = agent.frames()[-1].frame
    agent.wait("remote", 15, after=last_without)
    _, end, links, said = agent.stop()
    assert end.reconnects == 1
    assert "no connection" in said
    assert {event.connected for event in links} == {True, False}
    print(f"triton killed: {end.captured} frames, {dict(end.outcomes)}")


def test_a_full_queue_is_busy_and_costs_neither_frame_nor_connection(start_triton, start_agent):
    def slow(folder):
        module = folder / "1/model.py"
        text = module.read_text()
        assert SLOW[0] in text
        module.write_text(text.replace(*SLOW))
        config = folder / "config.pbtxt"
        text = config.read_text()
        text = text.replace("max_queue_size: 256", "max_queue_size: 1")
        config.write_text(text.replace("max_batch_size: 32", "max_batch_size: 1"))

    triton = start_triton(slow)
    agent = start_agent(triton.address, "--policy", "fixed:3,4", fps=30, deadline="600ms")
    agent.wait("remote", 10)
    agent.wait("exit", 20)
    frames, end, _, said = agent.stop()
    assert end.reconnects == 0
    assert "failed a frame" not in said
    refused = sum("the server says busy" in (event.reason or "") for event in frames)
    assert refused > 0, "the queue was never full"
    print(f"triton busy: {end.captured} frames, {dict(end.outcomes)}, {refused} refused")


def test_a_full_queue_behind_a_single_call_is_unavailable(start_triton, golden):
    def slow(folder):
        module = folder / "1/model.py"
        module.write_text(module.read_text().replace(*SLOW))
        config = folder / "config.pbtxt"
        text = config.read_text().replace("max_queue_size: 256", "max_queue_size: 1")
        config.write_text(text.replace("max_batch_size: 32", "max_batch_size: 1"))

    triton = start_triton(slow)
    request = latent_request(model="tiny", frame_id="1", latent_nchw=golden[0][:1], budget_us=None)
    with grpc.insecure_channel(triton.address) as channel:
        calls = [InferenceStub(channel).ModelInfer.future(request, timeout=30) for _ in range(8)]
        codes = [call.code() for call in calls]
        details = {call.details() for call in calls if call.code() is not grpc.StatusCode.OK}
    assert codes.count(grpc.StatusCode.OK) >= 1
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert all("Exceeds maximum queue size" in detail for detail in details)


def test_it_reads_the_configuration_for_its_onnxruntime_backend(start_triton, split_bundle):
    """This wheel has no onnxruntime backend: that alone, and nothing in the configuration, must stop it."""
    triton = start_triton()
    write_triton_repository(split_bundle, triton.folder)
    with pytest.raises(grpc.RpcError) as refused:
        triton.ask("RepositoryModelLoad", oip.RepositoryModelLoadRequest(model_name="tiny"))
    assert "unable to find backend library for backend 'onnxruntime'" in refused.value.details()
