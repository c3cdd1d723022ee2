import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import WireError
from isthmus.runtime.wire import (
    Answer,
    answer_response,
    oip,
    parse_answer,
    parse_stream_answer,
    refusal_response,
)

SCORES = np.array([[0.25, -1.5, 3.0]], np.float32)


def _response(**changes):
    response = oip.ModelInferResponse(id="9", raw_output_contents=[SCORES.tobytes()])
    response.outputs.add(**{"name": "logits", "datatype": "FP32", "shape": [1, 3], **changes})
    return response


@given(
    outcome=st.sampled_from(["ok", "expired"]),
    queue_us=st.none() | st.integers(0, 10**9),
    compute_us=st.none() | st.integers(0, 10**9),
    decode_us=st.none() | st.integers(0, 10**9),
    answer_us=st.none() | st.integers(0, 10**9),
    lean=st.booleans(),
    received_ns=st.none() | st.integers(0, 2**62),
    load_pct=st.none() | st.integers(0, 100),
    frame_id=st.text(max_size=8),
)
def test_an_answer_comes_back(
    outcome, queue_us, compute_us, decode_us, answer_us, lean, received_ns, load_pct, frame_id
):
    answer = Answer(
        frame_id=frame_id,
        outcome=outcome,
        outputs_nc=SCORES if outcome == "ok" else np.empty((0, 0), np.float32),
        queue_s=None if queue_us is None else queue_us / 1e6,
        compute_s=None if compute_us is None else compute_us / 1e6,
        decode_s=None if decode_us is None else decode_us / 1e6,
        answer_s=None if answer_us is None else answer_us / 1e6,
        received_ns=received_ns,
        load_pct=load_pct,
    )
    message = answer_response(answer, model="m", output="logits", lean=lean)
    back = parse_answer(oip.ModelInferResponse.FromString(message.SerializeToString()))
    np.testing.assert_array_equal(back.outputs_nc, answer.outputs_nc)
    assert (back.frame_id, back.outcome, back.received_ns, back.load_pct) == (
        frame_id,
        outcome,
        received_ns,
        load_pct,
    )
    assert (back.queue_s, back.compute_s) == (answer.queue_s, answer.compute_s)
    assert (back.decode_s, back.answer_s) == (answer.decode_s, answer.answer_s)


def test_an_expired_answer_carries_no_output():
    answer = Answer(frame_id="1", outcome="expired", outputs_nc=np.empty((0, 0), np.float32))
    message = answer_response(answer, model="m", output="logits")
    assert not message.outputs
    assert not message.raw_output_contents
    assert message.parameters["isthmus_outcome"].string_param == "expired"


def test_another_servers_answer_is_ok_and_says_nothing_of_times():
    answer = parse_answer(_response())
    assert (answer.outcome, answer.queue_s, answer.compute_s, answer.received_ns, answer.load_pct) == (
        "ok",
        None,
        None,
        None,
        None,
    )
    np.testing.assert_array_equal(answer.outputs_nc, SCORES)


def test_typed_contents_are_read_too():
    response = _response()
    del response.raw_output_contents[:]
    response.outputs[0].contents.fp32_contents.extend([0.25, -1.5, 3.0])
    np.testing.assert_array_equal(parse_answer(response).outputs_nc, SCORES)


def _no_output():
    return oip.ModelInferResponse(id="9")


def _two_raw():
    response = _response()
    response.raw_output_contents.append(b"")
    return response


def _outcome(value):
    response = _response()
    response.parameters["isthmus_outcome"].string_param = value
    return response


def _times_as_text():
    response = _response()
    response.parameters["isthmus_queue_us"].string_param = "5"
    return response


MALFORMED = [
    (_no_output, "answer '9': 0 outputs, it must have exactly one"),
    (lambda: _response(datatype="FP16"), "answer '9', output 'logits': datatype 'FP16', it must be FP32"),
    (
        lambda: _response(shape=[3]),
        "answer '9', output 'logits': shape [3] is not 2 positive dimensions",
    ),
    (lambda: _response(shape=[1, 4]), "answer '9', output 'logits': 12 bytes, shape [1, 4] needs 16"),
    (_two_raw, "answer '9', output 'logits': 2 raw contents for 1 output"),
    (lambda: _outcome("late"), "answer '9': outcome 'late' is none of ok, expired, busy, failed"),
    (_times_as_text, "answer '9': parameter isthmus_queue_us is not an int64"),
]


@pytest.mark.parametrize(("make", "message"), MALFORMED, ids=[message for _, message in MALFORMED])
def test_a_malformed_answer_is_refused_with_an_exact_message(make, message):
    with pytest.raises(WireError) as refused:
        parse_answer(make())
    assert str(refused.value) == message


@pytest.mark.parametrize("outcome", ["busy", "failed"])
def test_a_refusal_names_its_frame_for_us_and_its_error_for_triton(outcome):
    message = refusal_response(frame_id="4", model="m", outcome=outcome, error="no room")
    assert message.error_message == "no room"
    answer = parse_stream_answer(message)
    assert (answer.frame_id, answer.outcome, answer.error) == ("4", outcome, "no room")
    assert answer.outputs_nc.shape == (0, 0)


def test_another_servers_error_is_a_failed_frame():
    answer = parse_stream_answer(oip.ModelStreamInferResponse(error_message="unexpected shape"))
    assert (answer.frame_id, answer.outcome, answer.error) == ("", "failed", "unexpected shape")


def test_a_streams_good_answer_is_its_response():
    answer = parse_stream_answer(oip.ModelStreamInferResponse(infer_response=_response()))
    np.testing.assert_array_equal(answer.outputs_nc, SCORES)


TIMED = {
    "queue_s": 0.0015,
    "decode_s": 0.0002,
    "compute_s": 0.002,
    "answer_s": 0.0001,
    "received_ns": 10**15,
    "load_pct": 40,
}


@pytest.mark.parametrize("told", [TIMED, {}], ids=["timed", "untimed"])
def test_a_lean_answer_says_the_same(told):
    answer = Answer(frame_id="4", outcome="ok", outputs_nc=SCORES, **told)
    message = oip.ModelStreamInferResponse(
        infer_response=answer_response(answer, model="m", output="logits", lean=True)
    )
    again = parse_stream_answer(oip.ModelStreamInferResponse.FromString(message.SerializeToString()))
    np.testing.assert_array_equal(again.outputs_nc, SCORES)
    times = ("queue_s", "decode_s", "compute_s", "answer_s", "received_ns", "load_pct")
    for name in ("frame_id", "outcome", *times, "error"):
        assert getattr(again, name) == getattr(answer, name)


@pytest.mark.parametrize("outcome", ["busy", "failed", "expired"])
def test_a_lean_refusal_says_the_same(outcome):
    error = "" if outcome == "expired" else "no room"
    message = refusal_response(frame_id="4", model="m", outcome=outcome, error=error, lean=True)
    answer = parse_stream_answer(message)
    assert (answer.frame_id, answer.outcome, answer.error) == ("4", outcome, error)
    assert answer.outputs_nc.shape == (0, 0)


def test_a_wait_too_long_for_the_lean_field_is_the_longest_it_can_say():
    answer = Answer(frame_id="4", outcome="ok", outputs_nc=SCORES, queue_s=1e6)
    response = answer_response(answer, model="m", output="logits", lean=True)
    assert response.isthmus.queue_us == 2**32 - 1


def test_what_an_answer_costs_beyond_its_scores():
    answer = Answer(frame_id="1234", outcome="ok", outputs_nc=SCORES, **TIMED)
    sizes = [
        answer_response(answer, model="tiny", output="logits", lean=lean).ByteSize() - SCORES.nbytes
        for lean in (False, True)
    ]
    assert sizes == [223, 33]


def _lean(outcome=0, raw=(bytes(12),)):
    response = oip.ModelInferResponse(id="9", raw_output_contents=raw)
    response.isthmus.SetInParent()
    response.isthmus.outcome = outcome
    return response


LEAN_MALFORMED = [
    (lambda: _lean(outcome=7), "answer '9': outcome 7 is unknown"),
    (lambda: _lean(raw=()), "answer '9': 0 raw contents, not 1"),
    (lambda: _lean(raw=(b"", b"")), "answer '9': 2 raw contents, not 1"),
    (lambda: _lean(raw=(bytes(7),)), "answer '9': 7 bytes, shape [1, 1] needs 4"),
]


@pytest.mark.parametrize(("make", "message"), LEAN_MALFORMED, ids=[message for _, message in LEAN_MALFORMED])
def test_a_malformed_lean_answer_is_refused_with_an_exact_message(make, message):
    with pytest.raises(WireError) as refused:
        parse_answer(make())
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Exceeds maximum queue size", "busy"),
        ("[request id: 7] Request timeout expired", "busy"),
        ("Failed to process the request(s)", "failed"),
    ],
)
def test_on_tritons_stream_busy_is_a_text(text, outcome):
    message = oip.ModelStreamInferResponse(error_message=text)
    message.infer_response.id = "7"
    answer = parse_stream_answer(message)
    assert (answer.frame_id, answer.outcome, answer.error) == ("7", outcome, text)


def test_a_stream_of_bare_responses_is_told_from_one_of_errors():
    response = _response()
    response.model_name = "tiny"
    bare = oip.ModelStreamInferResponse.FromString(response.SerializeToString())
    assert bare.error_message == "tiny"
    with pytest.raises(WireError, match="in another form than Triton's; it takes single calls"):
        parse_stream_answer(bare)
