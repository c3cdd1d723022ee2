"""Our agents on a real MLServer, one call a frame, with what `isthmus export --mlserver` writes."""

import re

import grpc
import numpy as np
import pytest

from isthmus.device_agents.doctor import examine_server
from isthmus.runtime.wire import latent_request, oip, parse_answer


def test_it_serves_what_export_wrote(start_mlserver, golden, split_bundle):
    mlserver = start_mlserver()
    latents, outputs = golden
    request = latent_request(model="tiny", frame_id="7", latent_nchw=latents, budget_us=None)
    answer = parse_answer(mlserver.ask("ModelInfer", request))
    assert answer.frame_id == "7"
    np.testing.assert_allclose(answer.outputs_nc, outputs, rtol=1e-4, atol=1e-5)
    metadata = mlserver.ask("ModelMetadata", oip.ModelMetadataRequest(name="tiny"))
    assert metadata.parameters["isthmus_bundle"].string_param == split_bundle.digest
    assert [list(tensor.shape) for tensor in metadata.inputs] == [[-1, 4, 4, 4]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensor: setattr(tensor, "name", "image"), "send exactly one input, 'latent'"),
        (lambda tensor: setattr(tensor, "datatype", "INT8"), "it must be UINT8 [n, 4, 4, 4]"),
        (lambda tensor: tensor.shape.__setitem__(slice(1, None), [64]), "it must be UINT8 [n, 4, 4, 4]"),
    ],
)
def test_its_runtime_refuses_what_does_not_fit(start_mlserver, golden, spoil, message):
    request = latent_request(model="tiny", frame_id="7", latent_nchw=golden[0][:1], budget_us=None)
    spoil(request.inputs[0])
    with pytest.raises(grpc.RpcError) as refused:
        start_mlserver().ask("ModelInfer", request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in refused.value.details()


async def test_the_doctor_finds_the_very_bundle(start_mlserver, split_bundle):
    findings = await examine_server(
        start_mlserver().address,
        model="tiny",
        manifest=split_bundle.manifest,
        digest=split_bundle.digest,
        deadline_s=1.0,
        timeout_s=10.0,
    )
    assert [finding.level for finding in findings] == ["ok", "ok", "ok"]
    assert re.match(r"mlserver [\d.]+: model 'tiny', plain latents one call a frame", findings[0].text)
    assert "the same as here" in findings[1].text


def test_an_agent_calls_it_for_each_frame(start_mlserver, start_agent):
    agent = start_agent(start_mlserver().address)
    agent.wait("remote", 60)
    _, end, _, said = agent.stop()
    assert "plain latents over single calls" in said
    assert end.reconnects == 0
    assert end.outcomes["remote"] >= 0.8 * end.captured
    print(f"mlserver: {end.captured} frames, {dict(end.outcomes)}")


def test_it_is_killed_and_started_again_in_the_middle_of_a_run(start_mlserver, start_agent):
    mlserver = start_mlserver()
    agent = start_agent(mlserver.address)
    agent.wait("remote", 15)
    mlserver.kill()
    last_before = agent.frames()[-1].frame
    agent.wait("exit", 20, after=last_before)
    mlserver.start()
    last_without = agent.frames()[-1].frame
    agent.wait("remote", 15, after=last_without)
    _, end, links, said = agent.stop()
    assert end.reconnects >= 1
    assert "no connection" in said
    assert {event.connected for event in links} == {True, False}
    print(f"mlserver killed: {end.captured} frames, {dict(end.outcomes)}")


def test_its_stream_is_found_to_be_of_another_kind(start_mlserver, start_agent):
    """It may be told to list any extension; its stream still answers in messages of its own."""
    agent = start_agent(start_mlserver(extensions=["model_stream_infer"]).address)
    agent.wait("remote", 30)
    _, end, _, said = agent.stop()
    said = " ".join(said.split())
    assert "its stream is of another kind than Triton's: one call a frame" in said
    assert "over single calls" in said
    assert end.reconnects == 1
    print(f"mlserver, stream first: {end.captured} frames, {dict(end.outcomes)}")
