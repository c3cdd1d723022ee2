from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from isthmus.device_agents.evaluate import Evaluation, evaluate, load_test_images, share_of
from isthmus.runtime.bundle import TAIL, Bundle
from isthmus.runtime.bundle.networks import Network, open_networks, with_absent
from isthmus.runtime.codecs import FrequencyTables, decode_payload, encode_payload
from isthmus.runtime.datasets import ImageSet, load_dataset, save_npz
from isthmus.runtime.errors import InputError, NetworkError, PeerError
from isthmus.runtime.wire import EXTENSION_PAYLOAD, Answer, answer_response, parse_request
from isthmus.runtime.wire import oip_pb2 as oip

Serve = Callable[..., Any]
Reply = Callable[[oip.ModelInferRequest], Any]


@pytest.fixture(scope="module")
def images(tiny_npz: Path) -> ImageSet:
    return load_dataset(f"npz:{tiny_npz}", split="test")


@pytest.fixture(scope="module")
def tail_reply(tiny: Bundle) -> Reply:
    """Reply with what the bundle's tail makes of a frame in either form."""
    tail = Network(TAIL, tiny.read(TAIL), threads=1)
    tables = FrequencyTables.from_bytes(tiny.read("tables.npz"))

    def reply(request: oip.ModelInferRequest) -> oip.ModelStreamInferResponse:
        frame = parse_request(request)
        if frame.latent_nchw is not None:
            latent = frame.latent_nchw
        else:
            sent = decode_payload(frame.payloads[0], tables=tables, max_latent_bytes=4096).latent_chw
            full = np.zeros((1, 4, 4, 4), np.uint8)
            full[0, : len(sent)] = sent
            latent = with_absent(full, len(sent), tiny.manifest.latent.zero_points)
        answer = Answer(frame_id=request.id, outcome="ok", outputs_nc=tail.run(latent))
        return oip.ModelStreamInferResponse(
            infer_response=answer_response(answer, model="tiny", output="logits")
        )

    return reply


def test_arrays_are_cropped_as_they_were_in_training(tiny: Bundle, images: ImageSet, tmp_path: Path) -> None:
    doubled = images.images.repeat(2, axis=1).repeat(2, axis=2)
    save_npz(tmp_path / "large.npz", dataclasses.replace(images, images=doubled))
    with pytest.raises(InputError, match=r"large\.npz: images are"):
        load_test_images(tiny, f"npz:{tmp_path / 'large.npz'}")
    provenance = {**tiny.manifest.provenance, "train_size": "16x16"}
    manifest = msgspec.structs.replace(tiny.manifest, provenance=provenance)
    found = load_test_images(dataclasses.replace(tiny, manifest=manifest), f"npz:{tmp_path / 'large.npz'}")
    assert found.shape_hwc == images.shape_hwc


def check_figures(evaluation: Evaluation, bundle: Bundle, images: ImageSet) -> None:
    """Compare every figure with one computed from the bundle's files alone."""
    networks = open_networks(bundle.manifest, bundle.manifest.files, bundle.read, threads=1)
    tables = FrequencyTables.from_bytes(bundle.read("tables.npz"))
    assert networks.local is not None
    local = networks.local.run(images.images).argmax(axis=1)
    assert tuple(score.point for score in evaluation.points) == bundle.manifest.points
    for score in evaluation.points:
        latents = networks.heads[score.point.width_index].run(images.images)
        answers = networks.tail.run(
            with_absent(latents, score.point.channels, bundle.manifest.latent.zero_points)
        ).argmax(axis=1)
        assert score.answers.tolist() == answers.tolist()
        assert score.accuracy.value == (answers == images.labels).mean()
        assert score.agreement is not None
        assert score.agreement.value == (answers == local).mean()
        sizes = [
            len(
                encode_payload(
                    latent[: score.point.channels],
                    codec=evaluation.codec,
                    width_index=score.point.width_index,
                    tables=tables,
                )
            )
            for latent in latents
        ]
        assert (score.bytes_mean, score.bytes_max) == (np.mean(sizes), max(sizes))
        assert 0 < score.head_s < 0.1
    assert len({score.accuracy.value for score in evaluation.points}) > 3, "points that differ in worth"
    assert evaluation.local is not None
    assert evaluation.local.value == (local == images.labels).mean()
    assert len(evaluation.exits) == 4


async def test_a_stream_of_payloads(
    tiny: Bundle, images: ImageSet, tail_reply: Reply, scripted_server: Serve
) -> None:
    server = await scripted_server(reply=tail_reply)
    said: list[str] = []
    evaluation = await evaluate(
        tiny, images, server=server.address, progress=lambda what, share: said.append(f"{what} {share:.2f}")
    )
    check_figures(evaluation, tiny, images)
    assert (server.streams, server.calls) == (12, 0)
    assert len(server.requests) == 12 * len(images)
    assert all(request.inputs[0].name == "payload" for request in server.requests)
    assert "isthmus_budget_us" not in server.requests[0].parameters, "no deadline"
    assert evaluation.server == "scripted 1"
    assert said[0] == "the uncut network 0.00"
    assert said[-1] == "width 1, 4 channels 0.92"


@pytest.mark.parametrize("extensions", [(), None, (EXTENSION_PAYLOAD,)])
async def test_another_server_gets_calls_and_the_form_it_knows(
    extensions: tuple[str, ...] | None,
    tiny: Bundle,
    images: ImageSet,
    tail_reply: Reply,
    scripted_server: Serve,
) -> None:
    server = await scripted_server(reply=tail_reply, extensions=extensions)
    few = images.subset(np.arange(20), name="few")
    evaluation = await evaluate(tiny, few, server=server.address, codec="raw")
    check_figures(evaluation, tiny, few)
    assert (server.streams, server.calls) == (0, 12 * 20)
    expected = "payload" if extensions else "latent"
    assert {request.inputs[0].name for request in server.requests} == {expected}


@pytest.mark.parametrize("extensions", [(), ("isthmus_payload", "model_stream_infer")])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("failed", "did not answer image 0: scripted failed"),
        ("busy", "did not answer image 0: scripted busy"),
        ("expired", "did not answer image 0: expired"),
        ("wide", r"answered frame '0' with \(1, 5\)"),
    ],
)
async def test_a_frame_that_is_not_answered_ends_the_measurement(
    kind: str,
    message: str,
    extensions: tuple[str, ...],
    tiny: Bundle,
    images: ImageSet,
    replies: dict[str, Reply],
    scripted_server: Serve,
) -> None:
    def wide(request: oip.ModelInferRequest) -> oip.ModelStreamInferResponse:
        answer = Answer(frame_id=request.id, outcome="ok", outputs_nc=np.zeros((1, 5), np.float32))
        return oip.ModelStreamInferResponse(infer_response=answer_response(answer, model="tiny", output="x"))

    server = await scripted_server(reply={**replies, "wide": wide}[kind], extensions=extensions)
    if not extensions:
        # Calls run side by side, so any image may be the first; and a call has no place for an error message
        # beside an answer.
        message = message.replace(" 0", r" \d+").replace("'0'", r"'\d+'").replace("scripted ", "")
    with pytest.raises(PeerError, match=message):
        await evaluate(tiny, images, server=server.address)


async def test_a_repeated_or_foreign_answer_is_refused(
    tiny: Bundle, images: ImageSet, tail_reply: Reply, scripted_server: Serve
) -> None:
    server = await scripted_server(reply=lambda request: [tail_reply(request), tail_reply(request)])
    with pytest.raises(PeerError, match="answered frame '0' with"):
        await evaluate(tiny, images, server=server.address)

    def foreign(request: oip.ModelInferRequest) -> Any:
        request.id = "48"
        return tail_reply(request)

    server = await scripted_server(reply=foreign)
    with pytest.raises(PeerError, match="answered frame '48' with"):
        await evaluate(tiny, images, server=server.address)


async def test_a_server_that_ends_the_stream(tiny: Bundle, images: ImageSet, scripted_server: Serve) -> None:
    server = await scripted_server(
        reply=lambda _request: (grpc.StatusCode.INVALID_ARGUMENT, "payload: made up reason")
    )
    with pytest.raises((PeerError, NetworkError), match="made up reason"):
        await evaluate(tiny, images, server=server.address)


async def test_no_server_no_model_other_model(tiny: Bundle, images: ImageSet, scripted_server: Serve) -> None:
    with pytest.raises(NetworkError, match=r"server 127\.0\.0\.1:1: UNAVAILABLE.*isthmus serve"):
        await evaluate(tiny, images, server="127.0.0.1:1")
    server = await scripted_server(models={"other": (-1, 9, 4, 4)})
    with pytest.raises(NetworkError, match="has no model 'tiny'"):
        await evaluate(tiny, images, server=server.address)
    with pytest.raises(PeerError, match=r"takes latents \(9, 4, 4\)"):
        await evaluate(tiny, images, server=server.address, model="other")


async def test_images_that_do_not_fit_are_refused_before_anything_is_sent(tiny: Bundle) -> None:
    with pytest.raises(InputError, match="images are 32x32 grey, the network takes 16x16 grey"):
        await evaluate(tiny, load_dataset("digits", split="test", limit=3), server="127.0.0.1:1")


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # From the closed form, to four digits: e.g. 10 of 10 gives n / (n + z²).
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (930, 1000, 0.9125, 0.9442)],
)
def test_share_has_wilsons_interval(right: int, count: int, low: float, high: float) -> None:
    share = share_of(right, count)
    assert share.value == right / count
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-4)
    assert share.margin == pytest.approx(max(share.value - low, high - share.value), abs=1e-4)
