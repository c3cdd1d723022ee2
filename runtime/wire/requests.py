"""A frame on its way to the server: written by the agent, parsed by the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.errors import WireError
from isthmus.runtime.wire import oip_pb2 as oip
from isthmus.runtime.wire.names import BUDGET_US, LATENT, MAX_NAME, PAYLOAD
from isthmus.runtime.wire.tensors import (
    check_shape,
    pack_bytes,
    unpack_bytes,
    unpack_uint8,
    unpack_uint8_list,
)

_DATATYPE = {LATENT: "UINT8", PAYLOAD: "BYTES"}
_RANK = {LATENT: 4, PAYLOAD: 1}
# Far more than any server computes in one go, and too few to keep it busy with counting them.
_MOST_ROWS = 65_536


class FrameRequest(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a well-formed ModelInfer request asks for; exactly one of `latent_nchw` and `payloads` is there.

    Attributes:
        model: The bundle's name.
        version: The model version asked for; empty means any.
        frame_id: Comes back with the answer.
        budget_s: Seconds that remained before the deadline when the frame was sent; None = no deadline.
        latent_nchw: uint8 [n, channels, height, width], the leading channels of each latent.
        payloads: n encoded latents.
        outputs: Names of the outputs asked for; empty means all.
        lean: The client sends and takes the short form.
    """

    model: str
    version: str = ""
    frame_id: str = ""
    budget_s: float | None = None
    latent_nchw: NDArray[np.uint8] | None = None
    payloads: tuple[bytes, ...] = ()
    outputs: tuple[str, ...] = ()
    lean: bool = False

    @property
    def rows(self) -> int:
        """How many latents the request carries."""
        return len(self.payloads) if self.latent_nchw is None else len(self.latent_nchw)


def payload_request(
    *, model: str, frame_id: str, payloads: Sequence[bytes], budget_us: int | None
) -> oip.ModelInferRequest:
    """Return a request with encoded latents, input `payload` BYTES [n]; `budget_us` None = no deadline."""
    return _request(model, frame_id, budget_us, PAYLOAD, (len(payloads),), pack_bytes(payloads))


def latent_request(
    *, model: str, frame_id: str, latent_nchw: NDArray[np.uint8], budget_us: int | None
) -> oip.ModelInferRequest:
    """Return a request with plain latents, input `latent` UINT8 [n,C,H,W], which any server takes."""
    return _request(model, frame_id, budget_us, LATENT, latent_nchw.shape, latent_nchw.tobytes())


def lean_request(
    *, model: str, frame_id: str, payload: bytes, budget_us: int | None
) -> oip.ModelInferRequest:
    """Return a request with one payload that says nothing twice, for a server with `EXTENSION_LEAN`.

    The payload is the raw contents as it is. `model` may be left empty on a stream that has named it before.
    """
    return oip.ModelInferRequest(
        model_name=model, id=frame_id, raw_input_contents=[payload], isthmus_budget_us=budget_us
    )


def parse_request(message: oip.ModelInferRequest) -> FrameRequest:
    """Return what `message` asks for.

    Raises:
        WireError: If it is malformed: not exactly one input we know, another datatype or rank, contents that
            do not fit the shape, a budget that is no integer, a name that is too long, or a form we do not
            have.
    """
    _check_names(message)
    inputs = message.inputs
    if not inputs and len(message.raw_input_contents) == 1:
        return _parse_lean(message)
    if len(inputs) != 1:
        raise WireError(f"request has {len(inputs)} inputs; send exactly one, '{LATENT}' or '{PAYLOAD}'")
    tensor = inputs[0]
    if tensor.name not in _DATATYPE:
        raise WireError(f"unknown input {tensor.name!r}; send '{LATENT}' or '{PAYLOAD}'")
    where = f"input '{tensor.name}'"
    if tensor.datatype != _DATATYPE[tensor.name]:
        raise WireError(f"{where}: datatype {tensor.datatype!r}, it must be {_DATATYPE[tensor.name]}")
    _refuse_shared_memory(tensor.parameters, where)
    shape = check_shape(tensor.shape, _RANK[tensor.name], where)
    if shape[0] > _MOST_ROWS:
        raise WireError(f"{where}: shape {list(shape)} has {shape[0]} rows, at most {_MOST_ROWS} are read")
    raw = _raw_contents(message, where)
    return FrameRequest(
        model=message.model_name,
        version=message.model_version,
        frame_id=message.id,
        budget_s=_budget_s(message),
        latent_nchw=_latent(tensor, shape, raw, where) if tensor.name == LATENT else None,
        payloads=_payloads(tensor, shape[0], raw, where) if tensor.name == PAYLOAD else (),
        outputs=_outputs(message),
    )


def _check_names(message: oip.ModelInferRequest) -> None:
    # They come back with the answer, which must not outgrow what a message may be.
    if len(message.id) + len(message.model_name) + len(message.model_version) <= MAX_NAME:
        return
    for field in ("id", "model_name", "model_version"):
        if len(name := getattr(message, field)) > MAX_NAME:
            raise WireError(f"{field} of {len(name)} characters, at most {MAX_NAME} are taken")


def _parse_lean(message: oip.ModelInferRequest) -> FrameRequest:
    budget_us = message.isthmus_budget_us
    return FrameRequest(
        model=message.model_name,
        version=message.model_version,
        frame_id=message.id,
        budget_s=budget_us / 1e6 if budget_us or message.HasField("isthmus_budget_us") else None,
        payloads=(message.raw_input_contents[0],),
        outputs=_outputs(message),
        lean=True,
    )


def _request(
    model: str, frame_id: str, budget_us: int | None, name: str, shape: Sequence[int], raw: bytes
) -> oip.ModelInferRequest:
    message = oip.ModelInferRequest(model_name=model, id=frame_id, raw_input_contents=[raw])
    message.inputs.add(name=name, datatype=_DATATYPE[name], shape=shape)
    if budget_us is not None:
        message.parameters[BUDGET_US].int64_param = budget_us
    return message


def _raw_contents(message: oip.ModelInferRequest, where: str) -> bytes | None:
    if not message.raw_input_contents:
        return None
    if len(message.raw_input_contents) != 1:
        raise WireError(f"{where}: {len(message.raw_input_contents)} raw contents for 1 input")
    if message.inputs[0].HasField("contents"):
        raise WireError(f"{where}: both raw and typed contents; send one of them")
    return message.raw_input_contents[0]


def _latent(
    tensor: oip.ModelInferRequest.InferInputTensor, shape: tuple[int, ...], raw: bytes | None, where: str
) -> NDArray[np.uint8]:
    if raw is None:
        return unpack_uint8_list(tensor.contents.uint_contents, shape, where)
    return unpack_uint8(raw, shape, where)


def _payloads(
    tensor: oip.ModelInferRequest.InferInputTensor, count: int, raw: bytes | None, where: str
) -> tuple[bytes, ...]:
    if raw is not None:
        return unpack_bytes(raw, count, where)
    items = tuple(tensor.contents.bytes_contents)
    if len(items) != count:
        raise WireError(f"{where}: {len(items)} values, shape [{count}] needs {count}")
    return items


def _budget_s(message: oip.ModelInferRequest) -> float | None:
    # `in` first: indexing a protobuf map adds the key.
    if BUDGET_US not in message.parameters:
        return None
    parameter = message.parameters[BUDGET_US]
    if parameter.WhichOneof("parameter_choice") != "int64_param":
        raise WireError(f"parameter {BUDGET_US} is not an int64")
    return parameter.int64_param / 1e6


def _outputs(message: oip.ModelInferRequest) -> tuple[str, ...]:
    outputs = message.outputs
    if not outputs:
        return ()
    for output in outputs:
        _refuse_shared_memory(output.parameters, f"output {output.name!r}")
        # Answering with scores what was asked for as text would be a wrong answer, not a missing feature.
        if "classification" in output.parameters:
            raise WireError(
                f"output {output.name!r}: the classification form is not supported; ask for the scores"
            )
    return tuple(output.name for output in outputs)


def _refuse_shared_memory(parameters: Mapping[str, oip.InferParameter], where: str) -> None:
    if "shared_memory_region" in parameters:
        raise WireError(f"{where}: shared memory is not supported; send tensors in the message")
