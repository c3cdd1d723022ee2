"""What must hold of every payload, whoever made it.

It is decoded or refused with a `PayloadError` of one line, by both coders alike, in no time; and what was
decoded is coded to the same bytes again, for a latent has one payload.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from _fuzz.payload_inputs import PayloadInput
from isthmus.runtime.codecs import DecodedPayload, decode_payload, encode_payload, parse_payload
from isthmus.runtime.codecs.rans import RansCodec
from isthmus.runtime.errors import PayloadError

# Of processor time; a latent of these sizes takes less than a hundredth of it.
HANG_S = 1.0
_LONGEST_MESSAGE = 300
# Figures, and what is quoted in base 16, which differ from message to message.
_FIGURES = re.compile(
    r"\b([0-9a-f]{2}…|\d+(×\d+)*|[0-9a-f]{8}([0-9a-f]{8})?|(?<=starts with )[0-9a-f]+)(?=\W|$)"
)
_MOST_VIOLATIONS = 20


@dataclass(slots=True)
class PayloadVerdicts:
    """What came of the payloads so far.

    Attributes:
        outcomes: How many, by kind and by "decoded", "refused" or "broken".
        refusals: How many by message, figures left out.
        compared: How many were decoded by the numpy coder as well.
        slowest_s: Most processor seconds that one input took.
        violations: Inputs that broke a rule, with the rule; the first ones.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    slowest_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    def judge(self, one: PayloadInput, shape: tuple[int, int, int], *, both: bool) -> None:
        """Read `one` as a server of latents of `shape` does; `both`: by either coder."""
        started_s = time.thread_time()
        try:
            outcome = self._read(one, shape, both=both)
        except Exception as error:  # whatever is not documented
            outcome = "broken"
            self._violated(one, f"{type(error).__name__}: {error}")
        taken_s = time.thread_time() - started_s
        self.slowest_s = max(self.slowest_s, taken_s)
        if taken_s > HANG_S:
            self._violated(one, f"took {taken_s:.1f} s")
        self.outcomes[f"{one.kind}: {outcome}"] += 1

    def record(self) -> dict[str, Any]:
        """Return it as plain figures."""
        return {
            "outcomes": dict(sorted(self.outcomes.items())),
            "refusals": dict(self.refusals.most_common()),
            "compared_with_numpy": self.compared,
            "slowest_input_s": round(self.slowest_s, 4),
            "violations": self.violations,
        }

    def _read(self, one: PayloadInput, shape: tuple[int, int, int], *, both: bool) -> str:
        try:
            decoded = decode_payload(
                one.data, tables=one.tables, max_latent_bytes=_bytes(shape), expect=shape
            )
        except PayloadError as error:
            self._refused(one, str(error))
            decoded = None
        if both:
            self._compare(one, shape, decoded)
        if decoded is None:
            return "refused"
        self._again(one, decoded)
        return "decoded"

    def _refused(self, one: PayloadInput, message: str) -> None:
        if not message.startswith("payload: ") or "\n" in message or len(message) > _LONGEST_MESSAGE:
            self._violated(one, f"the message {message[:80]!r}")
        self.refusals[_FIGURES.sub("#", message)] += 1

    def _compare(
        self, one: PayloadInput, shape: tuple[int, int, int], decoded: DecodedPayload | None
    ) -> None:
        try:
            payload = parse_payload(one.data, tables=one.tables)
        except PayloadError:
            return
        sent = (payload.channels, payload.height, payload.width)
        if payload.codec != "rans" or sent[1:] != shape[1:] or sent[0] > shape[0]:
            return
        self.compared += 1
        try:
            latent = RansCodec("numpy").decode(payload.body, sent, one.tables, payload.width_index)
        except PayloadError:
            latent = None
        ours = None if decoded is None else decoded.latent_chw
        if (latent is None) != (ours is None) or (latent is not None and not np.array_equal(latent, ours)):
            self._violated(one, "the two coders differ")

    def _again(self, one: PayloadInput, decoded: DecodedPayload) -> None:
        codec = parse_payload(one.data, tables=one.tables).codec
        if codec == "bitshuffle-lz4":  # LZ4 has many streams for one content
            return
        again = encode_payload(
            decoded.latent_chw, codec=codec, width_index=decoded.width_index, tables=one.tables
        )
        if again != one.data:
            self._violated(one, f"its latent is coded to {again.hex()}")

    def _violated(self, one: PayloadInput, rule: str) -> None:
        if len(self.violations) < _MOST_VIOLATIONS:
            self.violations.append(f"{one.kind} {one.data.hex()} (tables {one.tables.table_id}): {rule}")


def _bytes(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]
