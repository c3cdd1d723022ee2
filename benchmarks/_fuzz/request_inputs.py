"""Requests that are well-formed, nearly so, or not at all: messages altered by fields and by bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from _fuzz.mutation import Mutator
from isthmus.runtime.bundle import TABLES, Bundle
from isthmus.runtime.codecs import CODECS, FrequencyTables, encode_payload
from isthmus.runtime.wire import (
    BUDGET_US,
    MAX_MESSAGE_BYTES,
    latent_request,
    lean_request,
    oip,
    payload_request,
)

_NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    4,
    5,
    16,
    32,
    33,
    255,
    65_536,
    65_537,
    1 << 31,
    1 << 62,
    -(1 << 63),
    (1 << 63) - 1,
)
_TEXTS = (
    "",
    "tiny",
    "tinY",
    "latent",
    "payload",
    "1",
    "UINT8",
    "BYTES",
    "FP32",
    "\0",
    "ß€😀",
    "a\nb",
    "%s%n",
)
_LONG = (1_000, 1_024, 1_025, 20_000)
_MOST_STREAM = 12
_OTHER_METHODS: dict[str, Any] = {
    "ServerLive": oip.ServerLiveRequest,
    "ServerReady": oip.ServerReadyRequest,
    "ServerMetadata": oip.ServerMetadataRequest,
    "ModelReady": oip.ModelReadyRequest,
    "ModelMetadata": oip.ModelMetadataRequest,
    "ModelConfig": oip.ModelConfigRequest,
    "ModelStatistics": oip.ModelStatisticsRequest,
    "RepositoryIndex": oip.RepositoryIndexRequest,
    "RepositoryModelLoad": oip.RepositoryModelLoadRequest,
    "RepositoryModelUnload": oip.RepositoryModelUnloadRequest,
    "SystemSharedMemoryStatus": oip.ServerLiveRequest,
    "NoSuchMethod": oip.ServerLiveRequest,
}
_CHANGES = ("RepositoryModelLoad", "RepositoryModelUnload")

Message = oip.ModelInferRequest


@dataclass(frozen=True, slots=True)
class RequestInput:
    """One call.

    Attributes:
        method: Of the service.
        kind: How the messages were made.
        messages: Their bytes: one, or several of a stream.
    """

    method: str
    kind: str
    messages: tuple[bytes, ...]

    @property
    def is_stream(self) -> bool:
        """Whether it goes over a stream."""
        return self.method == "ModelStreamInfer"


class RequestInputs:
    """An endless sequence of calls of a server of `bundle`; the same for the same seed.

    Attributes:
        good: A request that must be answered with scores, whatever happened before.
    """

    def __init__(self, seed: int, bundle: Bundle) -> None:
        self._random = Random(seed)
        self._name = bundle.manifest.name
        self._messages = _well_formed(bundle)
        self.good = self._messages[0].SerializeToString()
        self._mutator = Mutator(self._random, [message.SerializeToString() for message in self._messages])
        self._edits: tuple[Callable[[Message], None], ...] = (
            *(self._names, self._tensor, self._shape, self._raw, self._raw, self._typed),
            *(self._parameters, self._outputs, self._inputs, self._budget),
        )

    def next(self) -> RequestInput:
        """Return the next call."""
        where = self._random.random()
        if where < 0.6:
            kind, message = self._message()
            return RequestInput("ModelInfer", kind, (message,))
        if where < 0.9:
            # One bad message ends a stream, so most of them are good.
            made = [self._message(well_formed=0.8) for _ in range(self._random.randint(1, _MOST_STREAM))]
            return RequestInput("ModelStreamInfer", made[-1][0], tuple(message for _, message in made))
        return self._other_call()

    def _message(self, *, well_formed: float = 0.2) -> tuple[str, bytes]:
        message = Message()
        message.CopyFrom(self._random.choice(self._messages))
        if self._random.random() < well_formed:
            return "well-formed", message.SerializeToString()
        chance = self._random.random()
        if chance < 0.55:
            for _ in range(self._random.randint(1, 3)):
                self._random.choice(self._edits)(message)
            return "fields", message.SerializeToString()
        if chance < 0.93:
            return "bytes", self._mutator.mutate(message.SerializeToString())
        if chance < 0.999:
            return "random", self._mutator.random_bytes(200)
        message.raw_input_contents[:] = [bytes(self._random.choice((1 << 20, MAX_MESSAGE_BYTES + 1)))]
        return "large", message.SerializeToString()

    def _other_call(self) -> RequestInput:
        method = self._random.choice(tuple(_OTHER_METHODS))
        made = _OTHER_METHODS[method]()
        field = "model_name" if method in _CHANGES else "name"
        if field in made.DESCRIPTOR.fields_by_name:
            setattr(made, field, self._random.choice((self._name, "", self._text())))
        data = made.SerializeToString()
        if self._random.random() < 0.7:
            data = self._mutator.mutate(data)
        if method in _CHANGES and self._name.encode() in data:  # what everything else is asked of must stay
            data = data.replace(self._name.encode(), b"gone")
        return RequestInput(method, "other", (data,))

    def _text(self) -> str:
        if self._random.random() < 0.2:
            return self._random.choice("a\0é😀") * self._random.choice(_LONG)
        return self._random.choice(_TEXTS)

    def _number(self) -> int:
        return self._random.choice(_NUMBERS) if self._random.random() < 0.7 else self._random.randint(-9, 300)

    def _names(self, message: Message) -> None:
        setattr(message, self._random.choice(("model_name", "model_version", "id")), self._text())

    def _tensor(self, message: Message) -> None:
        if message.inputs:
            setattr(message.inputs[0], self._random.choice(("name", "datatype")), self._text())

    def _shape(self, message: Message) -> None:
        if message.inputs:
            shape = message.inputs[0].shape
            if self._random.random() < 0.3 or not shape:
                shape[:] = [self._number() for _ in range(self._random.choice((0, 1, 4, 5, 300)))]
            else:
                shape[self._random.randrange(len(shape))] = self._number()

    def _raw(self, message: Message) -> None:
        raw = message.raw_input_contents
        change = self._random.random()
        if raw and change < 0.7:
            raw[0] = self._mutator.mutate(raw[0])
        elif raw and change < 0.85:
            del raw[0]
        else:
            raw.append(self._mutator.random_bytes(100))

    def _typed(self, message: Message) -> None:
        if message.inputs:
            contents = message.inputs[0].contents
            if self._random.random() < 0.5:
                contents.uint_contents.extend(
                    [self._number() & 0xFFFF_FFFF] * self._random.choice((1, 64, 500))
                )
            else:
                contents.bytes_contents.append(self._mutator.random_bytes(40))
            if self._random.random() < 0.7:
                message.ClearField("raw_input_contents")

    def _parameters(self, message: Message) -> None:
        holder = self._random.choice((message, *message.inputs))
        parameter = holder.parameters[self._random.choice((BUDGET_US, "shared_memory_region", self._text()))]
        kind = self._random.choice(("int64_param", "string_param", "bool_param", ""))
        if not kind:
            parameter.SetInParent()
        else:
            values = {"int64_param": self._number(), "string_param": self._text(), "bool_param": True}
            setattr(parameter, kind, values[kind])

    def _outputs(self, message: Message) -> None:
        for _ in range(self._random.choice((1, 1, 2, 500))):
            output = message.outputs.add(name=self._random.choice(("logits", self._text())))
        if self._random.random() < 0.3:
            output.parameters["classification"].int64_param = self._number()

    def _inputs(self, message: Message) -> None:
        if message.inputs and self._random.random() < 0.5:
            del message.inputs[0]
        else:
            for _ in range(self._random.choice((1, 1, 300))):
                message.inputs.add(name=self._text(), datatype="UINT8", shape=[1])

    def _budget(self, message: Message) -> None:
        message.isthmus_budget_us = self._number()


def _well_formed(bundle: Bundle) -> list[Message]:
    """Return requests of every form that must be answered with scores, but for the last: it is too late."""
    spec, name = bundle.manifest.latent, bundle.manifest.name
    tables = FrequencyTables.from_bytes(bundle.read(TABLES))
    random = np.random.default_rng(4)
    latents = random.integers(90, 160, (3, spec.channels, spec.height, spec.width), dtype=np.uint8)
    last = len(tables.channels) - 1
    payloads = [encode_payload(latents[0], codec=codec, width_index=last, tables=tables) for codec in CODECS]
    typed = Message(model_name=name, id="typed")
    tensor = typed.inputs.add(name="latent", datatype="UINT8", shape=(1, *latents.shape[1:]))
    tensor.contents.uint_contents.extend(latents[0].reshape(-1).tolist())
    return [
        latent_request(model=name, frame_id="latent", latent_nchw=latents, budget_us=None),
        latent_request(model=name, frame_id="narrow", latent_nchw=latents[:, :1], budget_us=60_000_000),
        payload_request(model=name, frame_id="payloads", payloads=payloads, budget_us=None),
        *(lean_request(model=name, frame_id="lean", payload=one, budget_us=None) for one in payloads),
        typed,
        lean_request(model=name, frame_id="late", payload=payloads[0], budget_us=-1),
    ]
