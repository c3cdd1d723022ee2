import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import WireError
from isthmus.runtime.wire import latent_request, lean_request, oip, parse_request, payload_request

LATENT = np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2)


def _again(message):
    return oip.ModelInferRequest.FromString(message.SerializeToString())


def test_a_latent_request_comes_back():
    frame = parse_request(_again(latent_request(model="m", frame_id="3", latent_nchw=LATENT, budget_us=2500)))
    assert (frame.model, frame.version, frame.frame_id, frame.rows) == ("m", "", "3", 1)
    assert frame.budget_s == pytest.approx(0.0025)
    np.testing.assert_array_equal(frame.latent_nchw, LATENT)
    assert frame.payloads == ()


def test_a_payload_request_comes_back():
    frame = parse_request(
        _again(payload_request(model="m", frame_id="3", payloads=[b"ab", b"c"], budget_us=None))
    )
    assert (frame.payloads, frame.rows, frame.budget_s) == ((b"ab", b"c"), 2, None)
    assert frame.latent_nchw is None


def test_a_lean_request_comes_back():
    frame = parse_request(_again(lean_request(model="m", frame_id="3", payload=b"abc", budget_us=2500)))
    assert (frame.model, frame.frame_id, frame.payloads, frame.lean) == ("m", "3", (b"abc",), True)
    assert frame.budget_s == pytest.approx(0.0025)
    endless = parse_request(_again(lean_request(model="", frame_id="", payload=b"", budget_us=None)))
    assert (endless.model, endless.payloads, endless.budget_s) == ("", (b"",), None)
    spent = parse_request(_again(lean_request(model="m", frame_id="", payload=b"", budget_us=-7)))
    assert spent.budget_s == pytest.approx(-7e-6)


def test_what_a_frame_costs_beyond_its_payload():
    payload = bytes(300)
    full = payload_request(model="tiny", frame_id="1234", payloads=[payload], budget_us=100_000)
    first = lean_request(model="tiny", frame_id="1234", payload=payload, budget_us=100_000)
    lean = lean_request(model="", frame_id="1234", payload=payload, budget_us=100_000)
    assert [message.ByteSize() - 300 for message in (full, first, lean)] == [67, 20, 14]


def test_typed_contents_say_the_same_as_raw_ones():
    message = oip.ModelInferRequest()
    message.inputs.add(name="latent", datatype="UINT8", shape=[1, 2, 2, 2]).contents.uint_contents.extend(
        range(8)
    )
    np.testing.assert_array_equal(parse_request(message).latent_nchw, LATENT)
    message = oip.ModelInferRequest()
    message.inputs.add(name="payload", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(
        [b"ab", b""]
    )
    assert parse_request(message).payloads == (b"ab", b"")


def test_a_budget_may_be_spent_already():
    message = payload_request(model="m", frame_id="", payloads=[b"a"], budget_us=-10)
    assert parse_request(message).budget_s == pytest.approx(-1e-5)


def test_parsing_leaves_the_message_as_it_was():
    message = payload_request(model="m", frame_id="", payloads=[b"a"], budget_us=None)
    before = message.SerializeToString(deterministic=True)
    parse_request(message)
    assert message.SerializeToString(deterministic=True) == before


def _spoil(**changes):
    message = latent_request(model="m", frame_id="1", latent_nchw=LATENT, budget_us=None)
    for name, value in changes.items():
        setattr(message.inputs[0], name, value)
    return message


def _no_input():
    return oip.ModelInferRequest(model_name="m")


def _two_inputs():
    message = _spoil()
    message.inputs.add().CopyFrom(message.inputs[0])
    return message


def _two_raw():
    message = _spoil()
    message.raw_input_contents.append(b"x")
    return message


def _raw_and_typed():
    message = _spoil()
    message.inputs[0].contents.uint_contents.append(1)
    return message


def _shape(*sizes):
    message = _spoil()
    message.inputs[0].shape[:] = sizes
    return message


def _budget_as_text():
    message = _spoil()
    message.parameters["isthmus_budget_us"].string_param = "5"
    return message


def _budget_without_value():
    message = _spoil()
    message.parameters["isthmus_budget_us"].SetInParent()
    return message


def _typed_payload_short():
    message = oip.ModelInferRequest()
    message.inputs.add(name="payload", datatype="BYTES", shape=[2]).contents.bytes_contents.append(b"a")
    return message


def _too_many_rows():
    message = _spoil(name="payload", datatype="BYTES")
    message.inputs[0].shape[:] = [1 << 62]
    message.raw_input_contents[0] = bytes(1 << 20)
    return message


def _shared_input():
    message = _spoil()
    message.ClearField("raw_input_contents")
    message.inputs[0].parameters["shared_memory_region"].string_param = "region"
    return message


def _shared_output():
    message = _spoil()
    message.outputs.add(name="logits").parameters["shared_memory_region"].string_param = "region"
    return message


def _huge():
    message = _spoil()
    message.inputs[0].shape[:] = [1, 1 << 62, 1 << 62, 1 << 62]
    return message


def _lean_of_two():
    return oip.ModelInferRequest(model_name="m", raw_input_contents=[b"a", b"b"])


def _classification():
    message = _spoil()
    message.outputs.add(name="logits").parameters["classification"].int64_param = 3
    return message


MALFORMED = [
    (_no_input, "request has 0 inputs; send exactly one, 'latent' or 'payload'"),
    (_two_inputs, "request has 2 inputs; send exactly one, 'latent' or 'payload'"),
    (lambda: _spoil(name="image"), "unknown input 'image'; send 'latent' or 'payload'"),
    (lambda: _spoil(datatype="FP32"), "input 'latent': datatype 'FP32', it must be UINT8"),
    (
        lambda: _spoil(name="payload", datatype="UINT8"),
        "input 'payload': datatype 'UINT8', it must be BYTES",
    ),
    (lambda: _shape(2, 2, 2), "input 'latent': shape [2, 2, 2] is not 4 positive dimensions"),
    (lambda: _shape(1, 2, -2, 2), "input 'latent': shape [1, 2, -2, 2] is not 4 positive dimensions"),
    (lambda: _shape(0, 2, 2, 2), "input 'latent': shape [0, 2, 2, 2] is not 4 positive dimensions"),
    (lambda: _shape(1, 2, 2, 3), "input 'latent': 8 bytes, shape [1, 2, 2, 3] needs 12"),
    (_two_raw, "input 'latent': 2 raw contents for 1 input"),
    (_raw_and_typed, "input 'latent': both raw and typed contents; send one of them"),
    (_budget_as_text, "parameter isthmus_budget_us is not an int64"),
    (_budget_without_value, "parameter isthmus_budget_us is not an int64"),
    (_too_many_rows, f"input 'payload': shape [{1 << 62}] has {1 << 62} rows, at most 65536 are read"),
    (_huge, f"input 'latent': 8 bytes, shape [1, {1 << 62}, {1 << 62}, {1 << 62}] needs {1 << 186}"),
    (_shared_input, "input 'latent': shared memory is not supported; send tensors in the message"),
    (_shared_output, "output 'logits': shared memory is not supported; send tensors in the message"),
    (_lean_of_two, "request has 0 inputs; send exactly one, 'latent' or 'payload'"),
    (_typed_payload_short, "input 'payload': 1 values, shape [2] needs 2"),
    (
        _classification,
        "output 'logits': the classification form is not supported; ask for the scores",
    ),
]


@pytest.mark.parametrize(("make", "message"), MALFORMED, ids=[message for _, message in MALFORMED])
def test_a_malformed_request_is_refused_with_an_exact_message(make, message):
    with pytest.raises(WireError) as refused:
        parse_request(make())
    assert str(refused.value) == message


@given(
    st.builds(
        oip.ModelInferRequest,
        inputs=st.lists(
            st.builds(
                oip.ModelInferRequest.InferInputTensor,
                name=st.sampled_from(["latent", "payload", ""]),
                datatype=st.sampled_from(["UINT8", "BYTES", ""]),
                shape=st.lists(st.integers(-1, 3), max_size=4),
            ),
            max_size=2,
        ),
        raw_input_contents=st.lists(st.binary(max_size=30), max_size=2),
    )
)
def test_whatever_arrives_is_a_frame_or_malformed(message):
    try:
        frame = parse_request(message)
    except WireError:
        return
    assert frame.rows == (1 if frame.lean else message.inputs[0].shape[0])
    assert frame.lean == (not message.inputs)
