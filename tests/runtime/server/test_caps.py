"""A small message that announces something huge is refused before anything of that size is allocated."""

import tracemalloc

import grpc
import numpy as np
import pytest

from isthmus.runtime.codecs import decode_payload, encode_payload
from isthmus.runtime.errors import IsthmusError, PayloadError
from isthmus.runtime.wire import latent_request, oip, parse_request, payload_request

# What a refusal may take: the message itself a few times over, never what it announces.
ROOM_BYTES = 1 << 20


@pytest.fixture
def bomb(samples):
    """A payload of a few tens of kB that decodes to 16 MB, more than a thousand times its bundle's latent."""
    latent = np.zeros((4, 2048, 2048), np.uint8)
    payload = encode_payload(latent, codec="bitshuffle-lz4", width_index=3, tables=samples.tables)
    assert len(payload) < latent.nbytes / 100
    return payload


@pytest.fixture
def within_room():
    """Fail the test if Python's and numpy's allocations between here and its end pass `ROOM_BYTES`."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < ROOM_BYTES


def test_the_bomb_is_a_real_one(bomb, samples):
    assert decode_payload(bomb, tables=samples.tables, max_latent_bytes=1 << 30).latent_chw.nbytes == 1 << 24


@pytest.mark.parametrize("expect", [None, (4, 4, 4), (4, 2048, 2048)])
def test_a_payload_that_decodes_to_more_than_the_cap_is_refused_unread(bomb, samples, within_room, expect):
    with pytest.raises(PayloadError, match=r"the cap is 64|does not fit"):
        decode_payload(bomb, tables=samples.tables, max_latent_bytes=64, expect=expect)


@pytest.mark.parametrize(
    ("name", "datatype", "shape"),
    [
        ("latent", "UINT8", [1, 4, 1 << 30, 1 << 30]),
        ("latent", "UINT8", [1 << 60, 4, 4, 4]),
        ("payload", "BYTES", [1 << 62]),
        ("payload", "BYTES", [1]),
    ],
)
def test_a_request_is_measured_by_what_it_holds(within_room, name, datatype, shape):
    message = oip.ModelInferRequest(model_name="tiny", id="0", raw_input_contents=[b"\xff\xff\xff\xff1234"])
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    with pytest.raises(IsthmusError):
        parse_request(message)


async def test_the_server_refuses_the_bomb_and_goes_on(tiny_server, bomb):
    request = payload_request(model="tiny", frame_id="0", payloads=[bomb], budget_us=None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tiny_server.stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "does not fit" in caught.value.details()
    good = latent_request(
        model="tiny", frame_id="1", latent_nchw=np.zeros((1, 4, 4, 4), np.uint8), budget_us=None
    )
    assert len((await tiny_server.stub.ModelInfer(good)).raw_output_contents) == 1


async def test_a_message_beyond_the_limit_is_refused_by_its_length(start_server, tiny_bundle):
    running = await start_server(tiny_bundle, max_message_bytes=2048)
    request = payload_request(model="tiny", frame_id="0", payloads=[bytes(3000)], budget_us=None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
