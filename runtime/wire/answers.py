"""A frame's answer: written by the server, parsed by the agent.

The agent's side also takes answers of other Open Inference Protocol servers, which say nothing of queue and
compute.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray

from isthmus.runtime.errors import WireError
from isthmus.runtime.wire import oip_pb2 as oip
from isthmus.runtime.wire.names import (
    ANSWER_US,
    COMPUTE_US,
    DECODE_US,
    LOAD_PCT,
    OUTCOME,
    QUEUE_US,
    RECEIVED_NS,
)
from isthmus.runtime.wire.tensors import check_shape, unpack_float32, unpack_float32_list

AnswerOutcome = Literal["ok", "expired", "busy", "failed"]
_OUTCOMES: tuple[AnswerOutcome, ...] = get_args(AnswerOutcome)
_LEAN_OUTCOME: dict[AnswerOutcome, oip.IsthmusAnswer.Outcome] = {
    "ok": oip.IsthmusAnswer.OK,
    "expired": oip.IsthmusAnswer.EXPIRED,
    "busy": oip.IsthmusAnswer.BUSY,
    "failed": oip.IsthmusAnswer.FAILED,
}
_OUTCOME_OF_LEAN = {number: outcome for outcome, number in _LEAN_OUTCOME.items()}
_TRITON_BUSY = ("Exceeds maximum queue size", "Request timeout expired")
_NO_MESSAGE = "the server's answer is no message of the Open Inference Protocol"


class Answer(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How the server ended a frame.

    Attributes:
        frame_id: The request's id.
        outcome: "ok", the outputs are there; "expired", its deadline passed, or would have, before it was
            computed; "busy", the queue was full or the server drains, another attempt may succeed; "failed",
            it will not.
        outputs_nc: float32 [n, classes]; [0, 0] unless the outcome is "ok".
        queue_s: Seconds from the frame's arrival to the start of its batch, decoding included.
        decode_s: Of these, seconds from its arrival until its payload was decoded.
        compute_s: Seconds its batch took in the tail.
        answer_s: Seconds from the end of its batch until this answer was written.
        received_ns: Its arrival, nanoseconds of the server's monotonic clock, whose zero is arbitrary.
        load_pct: Share of the last second in which the tail computed.
        error: The server's message; empty if the outcome is "ok" or "expired".
        retry_after_s: Seconds for which a busy server that said so wants to be left alone.

    Where the server did not say, the figures from `queue_s` to `load_pct` are None.
    """

    frame_id: str
    outcome: AnswerOutcome
    outputs_nc: NDArray[np.float32]
    queue_s: float | None = None
    decode_s: float | None = None
    compute_s: float | None = None
    answer_s: float | None = None
    received_ns: int | None = None
    load_pct: int | None = None
    error: str = ""
    retry_after_s: float = 0.0


def answer_response(answer: Answer, *, model: str, output: str, lean: bool = False) -> oip.ModelInferResponse:
    """Return the message of `answer`; `output` names its tensor, which only an "ok" answer has.

    `lean`: as short as a lean request, without names, for the client that sent one; one row at most.
    """
    response = oip.ModelInferResponse()
    _fill(response, answer, model=model, output=output, lean=lean)
    return response


def stream_response(
    answer: Answer, *, model: str, output: str, lean: bool = False
) -> oip.ModelStreamInferResponse:
    """Return a stream's message of `answer`; the arguments are those of `answer_response`."""
    message = oip.ModelStreamInferResponse()
    # In place: a message that is put into another is copied.
    _fill(message.infer_response, answer, model=model, output=output, lean=lean)
    return message


def refusal_response(
    *, frame_id: str, model: str, outcome: AnswerOutcome, error: str, lean: bool = False
) -> oip.ModelStreamInferResponse:
    """Return a stream's answer to a frame that was not served.

    `error` stands where Triton's clients look for it, the frame's id and outcome where ours do.
    """
    answer = Answer(frame_id=frame_id, outcome=outcome, outputs_nc=_NO_OUTPUTS)
    message = stream_response(answer, model=model, output="", lean=lean)
    message.error_message = error
    return message


def _fill(response: oip.ModelInferResponse, answer: Answer, *, model: str, output: str, lean: bool) -> None:
    response.id = answer.frame_id
    if lean:
        _fill_lean(response.isthmus, answer)
    else:
        response.model_name, response.model_version = model, "1"
        _fill_parameters(response, answer)
    if answer.outcome == "ok":
        if not lean:
            response.outputs.add(name=output, datatype="FP32", shape=answer.outputs_nc.shape)
        response.raw_output_contents.append(answer.outputs_nc.astype("<f4", copy=False).tobytes())


def _fill_parameters(response: oip.ModelInferResponse, answer: Answer) -> None:
    parameters = response.parameters
    parameters[OUTCOME].string_param = answer.outcome
    for name, seconds in (
        (QUEUE_US, answer.queue_s),
        (DECODE_US, answer.decode_s),
        (COMPUTE_US, answer.compute_s),
        (ANSWER_US, answer.answer_s),
    ):
        if seconds is not None:
            parameters[name].int64_param = round(seconds * 1e6)
    if answer.received_ns is not None:
        parameters[RECEIVED_NS].int64_param = answer.received_ns
    if answer.load_pct is not None:
        parameters[LOAD_PCT].int64_param = answer.load_pct


def _fill_lean(said: oip.IsthmusAnswer, answer: Answer) -> None:
    said.outcome = _LEAN_OUTCOME[answer.outcome]
    if answer.queue_s is not None:
        said.queue_us = _microseconds(answer.queue_s)
    if answer.compute_s is not None:
        said.compute_us = _microseconds(answer.compute_s)
    if answer.received_ns is not None:
        said.received_ns = answer.received_ns
    if answer.load_pct is not None:
        said.load_pct = answer.load_pct
    if answer.decode_s is not None:
        said.decode_us = _microseconds(answer.decode_s)
    if answer.answer_s is not None:
        said.answer_us = _microseconds(answer.answer_s)


def _microseconds(seconds: float) -> int:
    # A frame may have waited longer than the field can say; that is long enough.
    return min(round(seconds * 1e6), 0xFFFF_FFFF)


def parse_answer(response: oip.ModelInferResponse | None) -> Answer:
    """Return the answer in `response`; None is what gRPC makes of bytes that are no message.

    Raises:
        WireError: If there is no message, a parameter has another type, the outcome is unknown, or an "ok"
            answer has not exactly one FP32 output of two dimensions whose contents fit its shape.
    """
    if response is None:
        raise WireError(_NO_MESSAGE)
    if response.HasField("isthmus"):
        return _parse_lean(response)
    outcome = _outcome(response)
    return Answer(
        frame_id=response.id,
        outcome=outcome,
        outputs_nc=_outputs(response) if outcome == "ok" else _NO_OUTPUTS,
        queue_s=_seconds(response, QUEUE_US),
        decode_s=_seconds(response, DECODE_US),
        compute_s=_seconds(response, COMPUTE_US),
        answer_s=_seconds(response, ANSWER_US),
        received_ns=_int64(response, RECEIVED_NS),
        load_pct=_int64(response, LOAD_PCT),
    )


def _parse_lean(response: oip.ModelInferResponse) -> Answer:
    said = response.isthmus
    if said.outcome not in _OUTCOME_OF_LEAN:
        raise WireError(f"answer {response.id!r}: outcome {said.outcome} is unknown")
    outcome, outputs = _OUTCOME_OF_LEAN[said.outcome], _NO_OUTPUTS
    if outcome == "ok":
        if len(response.raw_output_contents) != 1:
            raise WireError(
                f"answer {response.id!r}: {len(response.raw_output_contents)} raw contents, not 1"
            )
        raw = response.raw_output_contents[0]
        outputs = unpack_float32(raw, (1, len(raw) // 4), f"answer {response.id!r}")
    return Answer(
        frame_id=response.id,
        outcome=outcome,
        outputs_nc=outputs,
        queue_s=_said_s(said, "queue_us", said.queue_us),
        decode_s=_said_s(said, "decode_us", said.decode_us),
        compute_s=_said_s(said, "compute_us", said.compute_us),
        answer_s=_said_s(said, "answer_us", said.answer_us),
        received_ns=said.received_ns or (0 if said.HasField("received_ns") else None),
        load_pct=said.load_pct or (0 if said.HasField("load_pct") else None),
    )


def _said_s(said: oip.IsthmusAnswer, field: str, microseconds: int) -> float | None:
    # Only of a zero is it asked whether it was said at all.
    return microseconds / 1e6 if microseconds or said.HasField(field) else None


def parse_stream_answer(message: oip.ModelStreamInferResponse | None) -> Answer:
    """Return the answer in a stream's `message`; one with an error message is "failed" unless it says "busy".

    Raises:
        WireError: As `parse_answer`.
    """
    if message is None:
        raise WireError(_NO_MESSAGE)
    if not message.error_message:
        return parse_answer(message.infer_response)
    if is_other_form(message):
        raise WireError("the server's stream answers in another form than Triton's; it takes single calls")
    response = message.infer_response
    return Answer(
        frame_id=response.id,
        outcome="busy" if _says_busy(message) else "failed",
        outputs_nc=_NO_OUTPUTS,
        error=message.error_message,
    )


def is_other_form(message: oip.ModelStreamInferResponse | None) -> bool:
    """Say whether a stream's `message` is of another protocol than Triton's: MLServer sends bare responses.

    Read as Triton's message, such a one is none, or its model's name looks like an error and the rest is
    unknown.
    """
    return message is None or (not message.HasField("infer_response") and bool(UnknownFieldSet(message)))


def _says_busy(message: oip.ModelStreamInferResponse) -> bool:
    response = message.infer_response
    if response.HasField("isthmus"):
        return response.isthmus.outcome == oip.IsthmusAnswer.BUSY
    if OUTCOME in response.parameters:
        return response.parameters[OUTCOME].string_param == "busy"
    # On a stream Triton gives no status, only the text of what would have been UNAVAILABLE.
    return any(text in message.error_message for text in _TRITON_BUSY)


def _no_outputs() -> NDArray[np.float32]:
    empty = np.empty((0, 0), np.float32)
    empty.setflags(write=False)
    return empty


_NO_OUTPUTS = _no_outputs()


def _outcome(response: oip.ModelInferResponse) -> AnswerOutcome:
    if OUTCOME not in response.parameters:
        return "ok"  # another server: it answers or it fails
    outcome = response.parameters[OUTCOME].string_param
    if outcome not in _OUTCOMES:
        raise WireError(f"answer {response.id!r}: outcome {outcome!r} is none of {', '.join(_OUTCOMES)}")
    return outcome


def _int64(response: oip.ModelInferResponse, name: str) -> int | None:
    if name not in response.parameters:
        return None
    parameter = response.parameters[name]
    if parameter.WhichOneof("parameter_choice") != "int64_param":
        raise WireError(f"answer {response.id!r}: parameter {name} is not an int64")
    return parameter.int64_param


def _seconds(response: oip.ModelInferResponse, name: str) -> float | None:
    microseconds = _int64(response, name)
    return None if microseconds is None else microseconds / 1e6


def _outputs(response: oip.ModelInferResponse) -> NDArray[np.float32]:
    if len(response.outputs) != 1:
        raise WireError(f"answer {response.id!r}: {len(response.outputs)} outputs, it must have exactly one")
    tensor = response.outputs[0]
    where = f"answer {response.id!r}, output {tensor.name!r}"
    if tensor.datatype != "FP32":
        raise WireError(f"{where}: datatype {tensor.datatype!r}, it must be FP32")
    shape = check_shape(tensor.shape, 2, where)
    if not response.raw_output_contents:
        return unpack_float32_list(tensor.contents.fp32_contents, shape, where)
    if len(response.raw_output_contents) != 1:
        raise WireError(f"{where}: {len(response.raw_output_contents)} raw contents for 1 output")
    return unpack_float32(response.raw_output_contents[0], shape, where)
