"""A stream over a real channel: order, lateness, refusals, faults."""

import grpc
import numpy as np
import pytest

from isthmus.runtime.wire import (
    SERVICE_NAME,
    latent_request,
    lean_request,
    oip,
    parse_stream_answer,
    payload_request,
)


def _frame(frame_id, value=1, *, budget_us=None, model="tiny", rows=1):
    latent = np.full((rows, 4, 4, 4), value, np.uint8)
    return latent_request(model=model, frame_id=frame_id, latent_nchw=latent, budget_us=budget_us)


async def _answers(call, count):
    return [parse_stream_answer(await call.read()) for _ in range(count)]


async def _all_read(call):
    """Wait until the server has queued what was written: a frame without budget is answered at once."""
    await call.write(_frame("barrier", budget_us=-1))
    answer = parse_stream_answer(await call.read())
    assert (answer.frame_id, answer.outcome) == ("barrier", "expired")


@pytest.fixture
def backend(make_gated_backend):
    return make_gated_backend(max_batch=4)


@pytest.fixture
async def gated(start_server, tiny_bundle, backend):
    return await start_server(tiny_bundle, backend=backend)


async def test_every_frame_of_a_stream_is_answered_by_its_id(tiny_server, samples):
    call = tiny_server.stub.ModelStreamInfer()
    for index in range(4):
        await call.write(
            payload_request(
                model="tiny", frame_id=str(index), payloads=[samples.payload(index)], budget_us=10**7
            )
        )
    await call.done_writing()
    answers = {answer.frame_id: answer for answer in await _answers(call, 4)}
    assert await call.read() is grpc.aio.EOF
    assert (await call.code()) == grpc.StatusCode.OK
    for index in range(4):
        np.testing.assert_allclose(
            answers[str(index)].outputs_nc, samples.outputs[index : index + 1], rtol=1e-4, atol=1e-5
        )


async def test_a_lean_client_names_its_model_once(tiny_server, samples):
    call = tiny_server.stub.ModelStreamInfer()
    for index, model in enumerate(("tiny", "", "")):
        await call.write(
            lean_request(
                model=model, frame_id=str(index), payload=samples.payload(index), budget_us=5 * 10**7
            )
        )
    messages = [await call.read() for _ in range(3)]
    call.cancel()
    for answer in map(parse_stream_answer, messages):
        index = int(answer.frame_id)
        np.testing.assert_allclose(
            answer.outputs_nc, samples.outputs[index : index + 1], rtol=1e-4, atol=1e-5
        )
        assert 0 <= answer.queue_s < 20
        assert answer.received_ns > 0
    assert not any(message.infer_response.outputs for message in messages)
    assert not any(message.infer_response.parameters for message in messages)


async def test_lean_and_full_frames_share_a_stream_and_get_answers_of_their_kind(tiny_server, samples):
    call = tiny_server.stub.ModelStreamInfer()
    await call.write(
        payload_request(model="tiny", frame_id="0", payloads=[samples.payload(0)], budget_us=None)
    )
    await call.write(lean_request(model="", frame_id="1", payload=samples.payload(1), budget_us=None))
    await call.write(lean_request(model="", frame_id="2", payload=samples.payload(2), budget_us=-1))
    found = {}
    for _ in range(3):
        message = await call.read()
        found[message.infer_response.id] = message
    call.cancel()
    assert [found[name].infer_response.HasField("isthmus") for name in "012"] == [False, True, True]
    assert [parse_stream_answer(found[name]).outcome for name in "012"] == ["ok", "ok", "expired"]


async def test_a_lean_frame_before_any_model_was_named_is_refused_alone(tiny_server, samples):
    call = tiny_server.stub.ModelStreamInfer()
    await call.write(lean_request(model="", frame_id="1", payload=samples.payload(0), budget_us=None))
    answer = parse_stream_answer(await call.read())
    assert (answer.frame_id, answer.outcome) == ("1", "failed")
    assert answer.error == "unknown model ''; this server has 'tiny'"
    await call.write(lean_request(model="tiny", frame_id="2", payload=samples.payload(0), budget_us=None))
    assert parse_stream_answer(await call.read()).outcome == "ok"
    call.cancel()


async def test_answers_come_in_the_order_of_deadlines(gated, backend):
    backend.max_batch = 1
    call = gated.stub.ModelStreamInfer()
    await call.write(_frame("first", budget_us=10**7))
    await backend.started()
    await call.write(_frame("later", 2, budget_us=9 * 10**7))
    await call.write(_frame("sooner", 3, budget_us=5 * 10**7))
    await _all_read(call)
    backend.let(3)
    assert [answer.frame_id for answer in await _answers(call, 3)] == ["first", "sooner", "later"]
    call.cancel()


async def test_a_late_frame_is_expired_and_the_stream_goes_on(gated, backend):
    call = gated.stub.ModelStreamInfer()
    await call.write(_frame("running"))
    await backend.started()
    await call.write(_frame("spent", budget_us=-1))
    expired = parse_stream_answer(await call.read())
    assert (expired.frame_id, expired.outcome, expired.error) == ("spent", "expired", "")
    await call.write(_frame("short", budget_us=1))
    backend.let(2)
    answers = await _answers(call, 2)
    assert {answer.frame_id: answer.outcome for answer in answers} == {"running": "ok", "short": "expired"}
    await call.write(_frame("next"))
    assert (await _answers(call, 1))[0].outcome == "ok"
    assert len(backend.batches) == 2
    call.cancel()


async def test_a_refused_frame_is_answered_and_the_stream_goes_on(start_server, tiny_bundle, backend):
    server = await start_server(tiny_bundle, backend=backend, queue_frames=2, max_batch=2)
    call = server.stub.ModelStreamInfer()
    await call.write(_frame("running"))
    await backend.started()
    await call.write(_frame("too many", rows=3))
    busy = parse_stream_answer(await call.read())
    assert (busy.frame_id, busy.outcome) == ("too many", "busy")
    assert busy.error == "the queue is full: 0 of 2 latents wait; send fewer or try another server"
    await call.write(_frame("lost", model="huge"))
    unknown = parse_stream_answer(await call.read())
    assert (unknown.frame_id, unknown.outcome) == ("lost", "failed")
    assert unknown.error == "unknown model 'huge'; this server has 'tiny'"
    backend.let()
    assert (await _answers(call, 1))[0].outcome == "ok"
    call.cancel()


async def test_a_malformed_frame_ends_the_stream_after_the_accepted_ones(gated, backend):
    call = gated.stub.ModelStreamInfer()
    await call.write(_frame("good"))
    await backend.started()
    await call.write(oip.ModelInferRequest(model_name="tiny", id="bad"))
    fault = await call.read()
    message = "request has 0 inputs; send exactly one, 'latent' or 'payload'"
    # Triton's clients read the error from the message, everybody reads the status below.
    assert (fault.error_message, fault.infer_response.id) == (message, "bad")
    backend.let()
    assert [answer.frame_id for answer in await _answers(call, 1)] == ["good"]
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    assert (ended.value.code(), ended.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_a_payload_that_cannot_be_decoded_ends_the_stream(tiny_server, samples):
    call = tiny_server.stub.ModelStreamInfer()
    await call.write(
        payload_request(model="tiny", frame_id="1", payloads=[samples.payload(0)[:-1]], budget_us=None)
    )
    fault = await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    assert ended.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert ended.value.details() == fault.error_message
    assert fault.error_message.startswith("item 0: payload: ")


async def test_names_of_megabytes_are_refused_in_few_bytes(tiny_server):
    """Echoed whole they would be more than a message may be, and the other answers would be lost with it."""
    call = tiny_server.stub.ModelStreamInfer()
    await call.write(_frame("before", budget_us=10**7))
    message = _frame("i" * 1_500_000)
    message.model_name = "\0" * 2_000_000
    await call.write(message)
    answered = await call.read()
    refused = await call.read()
    assert parse_stream_answer(answered).outcome == "ok"
    assert refused.error_message == "id of 1500000 characters, at most 1024 are taken"
    assert refused.ByteSize() < 4096
    assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_other_streams_outlive_one_that_ended(tiny_server, samples):
    good, bad = tiny_server.stub.ModelStreamInfer(), tiny_server.stub.ModelStreamInfer()
    await bad.write(oip.ModelInferRequest())
    await bad.read()
    with pytest.raises(grpc.aio.AioRpcError):
        await bad.read()
    await good.write(_frame("1"))
    assert (await _answers(good, 1))[0].outcome == "ok"
    good.cancel()


async def test_a_stream_is_read_only_while_its_window_is_open(start_server, tiny_bundle, backend):
    server = await start_server(tiny_bundle, backend=backend, stream_window=2)
    call = server.stub.ModelStreamInfer()
    for frame_id in ("1", "2", "3", "4"):
        await call.write(_frame(frame_id))
    await backend.started()
    backend.let(4)
    await _answers(call, 4)
    # With two frames unanswered the window is shut, so no three ever waited together.
    assert sum(len(batch) for batch in backend.batches) == 4
    assert max(len(batch) for batch in backend.batches) <= 2
    call.cancel()


async def test_a_client_that_leaves_takes_its_waiting_frames_along(gated, backend):
    call = gated.stub.ModelStreamInfer()
    await call.write(_frame("running"))
    await backend.started()
    await call.write(_frame("waiting", 9))
    await _all_read(call)
    call.cancel()
    await gated.server._servicer.idle.wait()
    other = gated.stub.ModelInfer(_frame("other", 5))
    backend.let(2)
    await other
    assert [batch[:, 0, 0, 0].tolist() for batch in backend.batches] == [[1], [5]]


async def test_a_bug_of_ours_fails_its_frame_and_is_logged(gated, backend, caplog):
    call = gated.stub.ModelStreamInfer()
    backend.fault = TypeError("a bug")
    backend.let(2)
    await call.write(_frame("1"))
    failed = parse_stream_answer(await call.read())
    assert (failed.frame_id, failed.outcome, failed.error) == (
        "1",
        "failed",
        "internal error; see the server's log",
    )
    assert "TypeError: a bug" in caplog.text
    backend.fault = None
    await call.write(_frame("2"))
    assert parse_stream_answer(await call.read()).outcome == "ok"
    call.cancel()


async def test_bytes_that_are_no_message_end_the_stream_after_its_accepted_frames(tiny_server):
    call = tiny_server.channel.stream_stream(f"/{SERVICE_NAME}/ModelStreamInfer")()
    await call.write(_frame("before", budget_us=10**7).SerializeToString())
    await call.write(b"\xff\xff\xff")
    answer = parse_stream_answer(oip.ModelStreamInferResponse.FromString(await call.read()))
    assert (answer.frame_id, answer.outcome) == ("before", "ok")
    assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "no message" in await call.details()
