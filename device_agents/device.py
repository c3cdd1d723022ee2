"""What this device computes for a frame: latents, payloads and its own answers.

Every method that computes is called on a worker thread and touches nothing the event loop touches. Decides
nothing: which point, and who answers, is the policy's and the session's choice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.operation.energy import EnergyWatch
from isthmus.runtime.bundle import TABLES, Bundle, OperatingPoint
from isthmus.runtime.bundle.networks import with_absent
from isthmus.runtime.codecs import CODECS, FrequencyTables, encode_payload
from isthmus.runtime.control import Decision, DeviceState, Fallback
from isthmus.runtime.errors import InputError
from isthmus.runtime.session.timing import RecentMedian


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """A frame ready to be sent.

    Attributes:
        latent_chw: uint8 with all channels: what an early exit takes.
        channels: How many leading ones are sent.
        payload: The encoded latent; None in the plain form.
        plain_nchw: uint8 [1, channels, height, width], channels that are not sent at their zero point; None
            in the encoded form.
        head_s, encode_s: Seconds taken.
        exit_s: Seconds of the early exit, if it was asked first and not sure enough.
    """

    latent_chw: NDArray[np.uint8]
    channels: int
    payload: bytes | None
    plain_nchw: NDArray[np.uint8] | None
    head_s: float
    encode_s: float
    exit_s: float | None = None

    @property
    def compute_s(self) -> float:
        """Seconds of all its parts."""
        return self.head_s + self.encode_s + (self.exit_s or 0.0)

    @property
    def nbytes(self) -> int:
        """Bytes that go on the wire, framing excluded."""
        if self.payload is not None:
            return len(self.payload)
        assert self.plain_nchw is not None
        return self.plain_nchw.nbytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswer:
    """A frame that the device has answered by itself.

    Attributes:
        kind: Early exit or the whole network.
        answer: Class index.
        answer_s: Seconds the answer took, the head apart.
        head_s: Seconds the head took; None for `local`.
        confidence: Softmax of the answer, in (0, 1], if that is why the device answered; otherwise None.
    """

    kind: Fallback
    answer: int
    answer_s: float
    head_s: float | None = None
    confidence: float | None = None

    @property
    def compute_s(self) -> float:
        """Seconds of all its parts."""
        return self.answer_s + (self.head_s or 0.0)


class Device:
    """The bank of a bundle with its codec."""

    def __init__(
        self,
        bundle: Bundle,
        bank: WidthBank,
        *,
        codec: str | None = None,
        energy: EnergyWatch | None = None,
    ) -> None:
        """Take `codec`, or the one the bundle prefers; `energy` is what is known of this device's watts.

        Raises:
            BundleError: If the bundle's tables cannot be verified.
            InputError: If the codec is not one of the bundle's, or this version does not know it.
        """
        known = [name for name in bundle.manifest.codecs if name in CODECS]
        self.codec = codec or (known[0] if known else "none")
        if self.codec not in known:
            raise InputError(
                f"codec {self.codec!r}: bundle {bundle.manifest.name} and this Isthmus share "
                f"{', '.join(known) or 'no codec'}"
            )
        self._bank = bank
        self._tables = FrequencyTables.from_bytes(bundle.read(TABLES))
        self._zero_points = bundle.manifest.latent.zero_points
        self._encode = RecentMedian()
        self._energy = energy

    @property
    def can_exit(self) -> bool:
        """The bundle has an early exit."""
        return self._bank.exit_s is not None

    def quickest(self) -> tuple[Fallback | None, float]:
        """Return the soonest way for the device to answer a frame whose latent is there, and its seconds."""
        if self._bank.exit_s is not None:
            return "exit", self._bank.exit_s
        if self._bank.local_s is not None:
            return "local", self._bank.local_s
        return None, 0.0

    def state(
        self, *, server_s: float, server_load: float | None = None, interval_s: float | None = None
    ) -> DeviceState:
        """Return what computing costs now.

        Args:
            server_s: What the server's part has taken lately, in seconds.
            server_load: Share of its time in which the server computes, in [0, 1]; None: it did not say.
            interval_s: Seconds from capture to capture; None: there is no clock.
        """
        return DeviceState(
            head_s=self._bank.head_s,
            exit_s=self._bank.exit_s,
            local_s=self._bank.local_s,
            encode_s=self._encode.seconds,
            server_s=server_s,
            server_load=server_load,
            interval_s=interval_s,
            transmit_j_per_byte=0.0 if self._energy is None else self._energy.transmit_j_per_byte,
            idle_w=0.0 if self._energy is None else self._energy.idle_w or 0.0,
        )

    def seconds_of(self, decision: Decision) -> float:
        """Return how long `compute` is going to take, as measured lately."""
        if decision.point is None:
            return self._bank.local_s or 0.0
        exit_s = self._bank.exit_s or 0.0
        return self._bank.head_s[decision.point.width_index] + self._encode.seconds + exit_s

    def compute(
        self,
        decision: Decision,
        image_hwc: NDArray[np.uint8],
        as_payload: bool,
        *,
        confidence: float | None = None,
    ) -> Encoded | OwnAnswer:
        """Return what `decision` asks for.

        Args:
            decision: `send`, `exit` or `local`.
            image_hwc: uint8 [height, width, channels] of the bundle's input.
            as_payload: Encode the latent; otherwise it is sent plain.
            confidence: When the early exit's softmax reaches this, its answer is given instead of a payload;
                None: it is not asked.
        """
        if decision.action == "local":
            answer, answer_s = self._bank.local(image_hwc)
            return OwnAnswer(kind="local", answer=answer, answer_s=answer_s)
        point = decision.point
        assert point is not None
        latent_chw, head_s = self._bank.head(point.width_index, image_hwc)
        if decision.action == "exit":
            answer, answer_s = self._bank.exit(latent_chw)
            return OwnAnswer(kind="exit", answer=answer, answer_s=answer_s, head_s=head_s)
        exit_s = None
        if confidence is not None:
            scores_c, exit_s = self._bank.exit_scores(latent_chw)
            answer, share = _surest(scores_c)
            if share >= confidence:
                return OwnAnswer(kind="exit", answer=answer, answer_s=exit_s, head_s=head_s, confidence=share)
        return self._encoded(latent_chw, point, as_payload, head_s=head_s, exit_s=exit_s)

    def answer(
        self, kind: Fallback, image_hwc: NDArray[np.uint8], latent_chw: NDArray[np.uint8]
    ) -> tuple[int, float]:
        """Return the device's own answer to a frame whose latent is there, and the seconds it took."""
        return self._bank.exit(latent_chw) if kind == "exit" else self._bank.local(image_hwc)

    def _encoded(
        self,
        latent_chw: NDArray[np.uint8],
        point: OperatingPoint,
        as_payload: bool,
        *,
        head_s: float,
        exit_s: float | None,
    ) -> Encoded:
        """Encode the leading channels of `point`, as a payload or as a plain latent."""
        started = time.perf_counter()
        payload = plain_nchw = None
        if as_payload:
            payload = encode_payload(
                latent_chw[: point.channels],
                codec=self.codec,
                width_index=point.width_index,
                tables=self._tables,
            )
        else:
            plain_nchw = with_absent(latent_chw[np.newaxis], point.channels, self._zero_points)
        encode_s = time.perf_counter() - started
        self._encode.add(encode_s)
        return Encoded(
            latent_chw=latent_chw,
            channels=point.channels,
            payload=payload,
            plain_nchw=plain_nchw,
            head_s=head_s,
            encode_s=encode_s,
            exit_s=exit_s,
        )


def _surest(scores_c: NDArray[np.float32]) -> tuple[int, float]:
    """Return the class with the highest score, and its softmax."""
    best = int(scores_c.argmax())
    return best, float(1.0 / np.exp(scores_c.astype(np.float64) - float(scores_c[best])).sum())
