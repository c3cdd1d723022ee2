"""Requests and statuses as a client sees them: every refusal with its exact status and message."""

from dataclasses import replace

import grpc
import numpy as np
import pytest

from isthmus import __version__
from isthmus.runtime.bundle import load_bundle
from isthmus.runtime.codecs import parse_payload
from isthmus.runtime.errors import (
    BackendError,
    BusyError,
    DrainingError,
    GateError,
    PayloadError,
    UnknownModelError,
    WireError,
)
from isthmus.runtime.server.refusals import status_of
from isthmus.runtime.wire import (
    EXTENSION_LEAN,
    EXTENSION_PAYLOAD,
    EXTENSION_STREAM,
    SERVICE_NAME,
    latent_request,
    oip,
    parse_answer,
    payload_request,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (WireError, "INVALID_ARGUMENT"),
        (PayloadError, "INVALID_ARGUMENT"),
        (UnknownModelError, "NOT_FOUND"),
        (BusyError, "RESOURCE_EXHAUSTED"),
        (DrainingError, "UNAVAILABLE"),
        (BackendError, "INTERNAL"),
        (GateError, "INTERNAL"),
    ],
)
def test_each_error_has_its_status(error, status):
    assert status_of(error("x")) == grpc.StatusCode[status]


async def test_a_latent_is_answered(tiny_server, samples):
    request = latent_request(model="tiny", frame_id="a7", latent_nchw=samples.latents[:3], budget_us=10**7)
    answer = parse_answer(await tiny_server.stub.ModelInfer(request))
    assert (answer.frame_id, answer.outcome) == ("a7", "ok")
    np.testing.assert_allclose(answer.outputs_nc, samples.outputs[:3], rtol=1e-4, atol=1e-5)
    assert 0 <= answer.queue_s < 5
    assert 0 < answer.compute_s < 5
    assert answer.received_ns > 0
    assert 0 <= answer.load_pct <= 100


@pytest.mark.parametrize("codec", ["rans", "raw", "bitshuffle-lz4"])
async def test_payloads_of_every_codec_are_answered_like_their_latents(tiny_server, samples, codec):
    payloads = [samples.payload(index, codec=codec) for index in range(4)]
    request = payload_request(model="tiny", frame_id="1", payloads=payloads, budget_us=None)
    answer = parse_answer(await tiny_server.stub.ModelInfer(request))
    np.testing.assert_allclose(answer.outputs_nc, samples.outputs, rtol=1e-4, atol=1e-5)


async def test_absent_channels_are_at_their_zero_points(tiny_server, samples):
    filled = samples.latents[:1].copy()
    filled[:, 1:] = np.array([128, 120, 100], np.uint8)[:, None, None]
    answers = [
        parse_answer(await tiny_server.stub.ModelInfer(request))
        for request in (
            latent_request(model="tiny", frame_id="1", latent_nchw=filled, budget_us=None),
            latent_request(model="tiny", frame_id="1", latent_nchw=filled[:, :1], budget_us=None),
            payload_request(
                model="tiny", frame_id="1", payloads=[samples.payload(0, channels=1)], budget_us=None
            ),
        )
    ]
    np.testing.assert_array_equal(answers[1].outputs_nc, answers[0].outputs_nc)
    np.testing.assert_array_equal(answers[2].outputs_nc, answers[0].outputs_nc)
    assert not np.allclose(answers[0].outputs_nc, samples.outputs[:1], atol=1e-3)


async def test_a_frame_without_budget_left_is_expired_not_an_error(tiny_server, samples):
    request = latent_request(model="tiny", frame_id="1", latent_nchw=samples.latents[:1], budget_us=0)
    response = await tiny_server.stub.ModelInfer(request)
    assert parse_answer(response).outcome == "expired"
    assert not response.outputs


async def test_metadata_tells_agents_what_they_may_send(tiny_server, tiny_bundle):
    server = await tiny_server.stub.ServerMetadata(oip.ServerMetadataRequest())
    assert (server.name, server.version) == ("isthmus", __version__)
    assert {EXTENSION_PAYLOAD, EXTENSION_STREAM, EXTENSION_LEAN} <= set(server.extensions)
    model = await tiny_server.stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny"))
    assert (model.name, list(model.versions), model.platform) == ("tiny", ["1"], "isthmus_bundle")
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [
        ("latent", "UINT8", [-1, 4, 4, 4]),
        ("payload", "BYTES", [-1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in model.outputs] == [("logits", "FP32", [-1, 3])]
    assert model.parameters["isthmus_bundle"].string_param == load_bundle(tiny_bundle).digest


async def test_live_and_ready(tiny_server):
    assert (await tiny_server.stub.ServerLive(oip.ServerLiveRequest())).live
    assert (await tiny_server.stub.ServerReady(oip.ServerReadyRequest())).ready
    assert (await tiny_server.stub.ModelReady(oip.ModelReadyRequest(name="tiny", version="1"))).ready


def _latent(shape=(1, 4, 4, 4), **changes):
    latent = np.full(shape, 100, np.uint8)
    return latent_request(
        **{"model": "tiny", "frame_id": "1", "latent_nchw": latent, "budget_us": None, **changes}
    )


def _payload(payload):
    return payload_request(model="tiny", frame_id="1", payloads=[payload], budget_us=None)


def _version(version):
    request = _latent()
    request.model_version = version
    return request


def _output(name):
    request = _latent()
    request.outputs.add(name=name)
    return request


REFUSED = [
    (
        lambda s: oip.ModelInferRequest(model_name="tiny"),
        "INVALID_ARGUMENT",
        "request has 0 inputs; send exactly one, 'latent' or 'payload'",
    ),
    (
        lambda s: _latent((1, 5, 4, 4)),
        "INVALID_ARGUMENT",
        "input 'latent': shape [1, 5, 4, 4] does not fit model 'tiny', which takes [n, 1 to 4, 4, 4]",
    ),
    (
        lambda s: _latent((1, 4, 8, 4)),
        "INVALID_ARGUMENT",
        "input 'latent': shape [1, 4, 8, 4] does not fit model 'tiny', which takes [n, 1 to 4, 4, 4]",
    ),
    (
        lambda s: _latent((33, 1, 4, 4)),
        "INVALID_ARGUMENT",
        "33 latents in one request, at most 32 are taken",
    ),
    (lambda s: _latent(model="huge"), "NOT_FOUND", "unknown model 'huge'; this server has 'tiny'"),
    (lambda s: _version("2"), "NOT_FOUND", "model 'tiny' has no version '2', only '1'"),
    (lambda s: _output("probs"), "INVALID_ARGUMENT", "model 'tiny' has no output 'probs', only 'logits'"),
    # Quoted whole, these would be more than a client takes as a status, and it would report one of its own.
    (
        lambda s: _latent(model="m" * 100_000),
        "INVALID_ARGUMENT",
        "model_name of 100000 characters, at most 1024 are taken",
    ),
    (
        lambda s: _latent(model="\0" * 1024),
        "NOT_FOUND",
        "unknown model '" + r"\x00" * 121 + "…",
    ),
]


@pytest.mark.parametrize(("make", "status", "message"), REFUSED, ids=[case[2] for case in REFUSED])
async def test_a_refused_request_has_its_exact_status(tiny_server, samples, make, status, message):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tiny_server.stub.ModelInfer(make(samples))
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode[status], message)


def _claiming(samples, channels, height, width):
    """Return a payload with another shape in its header and the checksum of that header."""
    payload = parse_payload(samples.payload(0), tables=samples.tables)
    return replace(payload, channels=channels, height=height, width=width).to_bytes()


HOSTILE = [
    (lambda samples: b"", "0 bytes, the shortest has 10"),
    (lambda samples: samples.payload(0)[:-1], "CRC-32 is "),
    (lambda samples: samples.payload(0) + b"\0", "CRC-32 is "),
    (lambda samples: b"XXXX" + samples.payload(0)[4:], "starts with 5858; this is no Isthmus payload"),
    (lambda samples: b"iS\x01" + samples.payload(0)[3:], "version 1, this Isthmus reads 2; update the end "),
    (
        # 256 TiB: refused by its header, before anything of that size is allocated.
        lambda samples: _claiming(samples, 65535, 65535, 65535),
        "latent 65535×65535×65535 does not fit this model's 4×4×4",
    ),
    (lambda samples: _claiming(samples, 5, 4, 4), "latent 5×4×4 does not fit this model's 4×4×4"),
    (lambda samples: _claiming(samples, 4, 4, 5), "latent 4×4×5 does not fit this model's 4×4×4"),
]


@pytest.mark.parametrize(("spoil", "reason"), HOSTILE, ids=[reason for _, reason in HOSTILE])
async def test_a_hostile_payload_is_invalid_and_says_why_in_one_line(tiny_server, samples, spoil, reason):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tiny_server.stub.ModelInfer(_payload(spoil(samples)))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith(f"item 0: payload: {reason}")
    assert "\n" not in refused.value.details()
    # The server goes on, and the frame's place in the queue was given back.
    answer = parse_answer(await tiny_server.stub.ModelInfer(_payload(samples.payload(0))))
    assert answer.outcome == "ok"


async def test_unknown_models_have_no_metadata_and_are_not_ready(tiny_server):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tiny_server.stub.ModelMetadata(oip.ModelMetadataRequest(name="huge"))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == "unknown model 'huge'; this server has 'tiny'"
    assert not (await tiny_server.stub.ModelReady(oip.ModelReadyRequest(name="huge"))).ready
    assert not (await tiny_server.stub.ModelReady(oip.ModelReadyRequest(name="tiny", version="7"))).ready


async def test_a_full_queue_is_resource_exhausted(start_server, tiny_bundle, make_gated_backend):
    backend = make_gated_backend(max_batch=1)
    server = await start_server(tiny_bundle, backend=backend, queue_frames=1, max_batch=1)
    stream = server.stub.ModelStreamInfer()
    await stream.write(_latent(frame_id="running"))
    await backend.started()
    await stream.write(_latent(frame_id="waiting"))
    await stream.write(_latent(frame_id="barrier", budget_us=-1))
    assert (await stream.read()).infer_response.id == "barrier"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await server.stub.ModelInfer(_latent())
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == (
        "the queue is full: 1 of 1 latents wait; send fewer or try another server"
    )
    stream.cancel()


async def test_a_failing_tail_is_internal(start_server, tiny_bundle, make_gated_backend):
    backend = make_gated_backend()
    backend.fault = BackendError("the tail failed on a batch of 1: no reason")
    server = await start_server(tiny_bundle, backend=backend)
    backend.let()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await server.stub.ModelInfer(_latent())
    assert failed.value.code() == grpc.StatusCode.INTERNAL
    assert failed.value.details() == "the tail failed on a batch of 1: no reason"


async def test_an_oversize_message_is_resource_exhausted(start_server, tiny_bundle):
    server = await start_server(tiny_bundle, max_message_bytes=4096)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await server.stub.ModelInfer(_payload(b"x" * 5000))
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refused.value.details()


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady", "ServerMetadata"])
async def test_bytes_that_are_no_message_are_the_clients_fault(tiny_server, caplog, method):
    call = tiny_server.channel.unary_unary(f"/{SERVICE_NAME}/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(b"\xff\xff\xff")
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "bytes that are no message of the Open Inference Protocol"
    assert caplog.records == []
