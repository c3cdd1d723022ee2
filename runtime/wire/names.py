"""Names that both ends must agree on. Once shipped, a name never changes its meaning."""

from __future__ import annotations

from typing import Final

SERVICE_NAME: Final = "inference.GRPCInferenceService"

# Inputs. `latent` works on every server that hosts tail.onnx, `payload` on ours.
LATENT: Final = "latent"
PAYLOAD: Final = "payload"

# Characters of a model's name, a version or a frame's id.
MAX_NAME: Final = 1024

# Request parameter: what remains of the frame's budget when it is sent, int64 microseconds. Never an absolute
# time, for two hosts share no clock.
BUDGET_US: Final = "isthmus_budget_us"

# Answer parameters, all int64 but the outcome (a string).
QUEUE_US: Final = "isthmus_queue_us"  # from the frame's arrival to the start of its batch, decoding included
DECODE_US: Final = "isthmus_decode_us"  # of these, from the arrival until the payload was decoded
COMPUTE_US: Final = "isthmus_compute_us"  # the batch in the tail
ANSWER_US: Final = "isthmus_answer_us"  # from the end of the batch until the answer was written
RECEIVED_NS: Final = (
    "isthmus_received_ns"  # the frame's arrival on the server's monotonic clock; its zero is arbitrary
)
OUTCOME: Final = "isthmus_outcome"  # "ok", "expired", "busy" or "failed"
LOAD_PCT: Final = "isthmus_load_pct"  # share of the last second in which the tail computed, 0 to 100

# ModelMetadata and ModelConfig parameter: digest of the bundle served, a string, as `Bundle.digest`.
BUNDLE: Final = "isthmus_bundle"

# ServerMetadata.extensions. An agent chooses the stream and the form of its frames by these, never by guess.
EXTENSION_PAYLOAD: Final = "isthmus_payload"
EXTENSION_STREAM: Final = "model_stream_infer"
# On a stream, a message without inputs is one payload for the model that the stream named last; its answer is
# as short (see `requests.lean_request`).
EXTENSION_LEAN: Final = "isthmus_lean"
# These three are Triton's names.
EXTENSION_CONFIG: Final = "model_configuration"
EXTENSION_REPOSITORY: Final = "model_repository"
EXTENSION_STATISTICS: Final = "statistics"
EXTENSIONS: Final = (
    EXTENSION_PAYLOAD,
    EXTENSION_STREAM,
    EXTENSION_LEAN,
    EXTENSION_CONFIG,
    EXTENSION_REPOSITORY,
    EXTENSION_STATISTICS,
)
