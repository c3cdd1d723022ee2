"""The wire: Open Inference Protocol v2 messages, and what they mean between an agent and a server.

Decides how a frame and its answer are written as messages and which malformed ones are refused. Knows no
model: whether a shape fits a bundle is the server's business.
"""

from isthmus.runtime.wire import oip_pb2 as oip
from isthmus.runtime.wire.answers import (
    Answer,
    AnswerOutcome,
    answer_response,
    is_other_form,
    parse_answer,
    parse_stream_answer,
    refusal_response,
    stream_response,
)
from isthmus.runtime.wire.channel import (
    CHANNEL_OPTIONS,
    MAX_MESSAGE_BYTES,
    channel_options,
    server_options,
)
from isthmus.runtime.wire.names import (
    BUDGET_US,
    BUNDLE,
    COMPUTE_US,
    EXTENSION_CONFIG,
    EXTENSION_LEAN,
    EXTENSION_PAYLOAD,
    EXTENSION_STREAM,
    EXTENSIONS,
    LATENT,
    LOAD_PCT,
    MAX_NAME,
    OUTCOME,
    PAYLOAD,
    QUEUE_US,
    RECEIVED_NS,
    SERVICE_NAME,
)
from isthmus.runtime.wire.requests import (
    FrameRequest,
    latent_request,
    lean_request,
    parse_request,
    payload_request,
)
from isthmus.runtime.wire.service import (
    NO_MESSAGE,
    AsyncServicer,
    ExtensionServicer,
    InferenceStub,
    add_servicer,
)

__all__ = [
    "BUDGET_US",
    "BUNDLE",
    "CHANNEL_OPTIONS",
    "COMPUTE_US",
    "EXTENSIONS",
    "EXTENSION_CONFIG",
    "EXTENSION_LEAN",
    "EXTENSION_PAYLOAD",
    "EXTENSION_STREAM",
    "LATENT",
    "LOAD_PCT",
    "MAX_MESSAGE_BYTES",
    "MAX_NAME",
    "NO_MESSAGE",
    "OUTCOME",
    "PAYLOAD",
    "QUEUE_US",
    "RECEIVED_NS",
    "SERVICE_NAME",
    "Answer",
    "AnswerOutcome",
    "AsyncServicer",
    "ExtensionServicer",
    "FrameRequest",
    "InferenceStub",
    "add_servicer",
    "answer_response",
    "channel_options",
    "is_other_form",
    "latent_request",
    "lean_request",
    "oip",
    "parse_answer",
    "parse_request",
    "parse_stream_answer",
    "payload_request",
    "refusal_response",
    "server_options",
    "stream_response",
]
