"""Codecs: latents to payloads and back, with integer tables that both ends share."""

from isthmus.runtime.codecs.codec import Codec
from isthmus.runtime.codecs.payload import (
    CODECS,
    DecodedPayload,
    Payload,
    decode_payload,
    encode_payload,
    parse_payload,
)
from isthmus.runtime.codecs.rans import RansCodec, coder_backend
from isthmus.runtime.codecs.tables import FrequencyTables

__all__ = [
    "CODECS",
    "Codec",
    "DecodedPayload",
    "FrequencyTables",
    "Payload",
    "RansCodec",
    "coder_backend",
    "decode_payload",
    "encode_payload",
    "parse_payload",
]
