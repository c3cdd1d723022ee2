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
from isthmus.device_agents.timing import RecentMedian
from isthmus.runtime.bundle import TABLES, Bundle, OperatingPoint
from isthmus.runtime.codecs import CODECS, FrequencyTables, encode_payload
from isthmus.runtime.control import DeviceState, Fallback
from isthmus.runtime.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """A frame ready to be sent.

    Attributes:
        latent_chw: uint8 with all channels: what an early exit takes.
        payload: The encoded latent; None in the plain form.
        plain_nchw: uint8 [1, channels, height, width], channels that are not sent at their zero point; None
            in the encoded form.
        head_s, encode_s: Seconds taken.
    """

    latent_chw: NDArray[np.uint8]
    payload: bytes | None
    plain_nchw: NDArray[np.uint8] | None
    head_s: float
    encode_s: float

    @property
    def nbytes(self) -> int:
        """Bytes that go on the wire, framing excluded."""
        if self.payload is not None:
            return len(self.payload)
        assert self.plain_nchw is not None
        return self.plain_nchw.nbytes


class Device:
    """The bank of a bundle with its codec."""

    def __init__(self, bundle: Bundle, bank: WidthBank, *, codec: str | None = None) -> None:
        """Take `codec`, or the one the bundle prefers.

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
        self._zero_points = np.array(bundle.manifest.latent.zero_points, np.uint8).reshape(-1, 1, 1)
        self._encode = RecentMedian()

    def quickest(self) -> tuple[Fallback | None, float]:
        """Return the soonest way for the device to answer a frame whose latent is there, and its seconds."""
        if self._bank.exit_s is not None:
            return "exit", self._bank.exit_s
        if self._bank.local_s is not None:
            return "local", self._bank.local_s
        return None, 0.0

    def state(self, *, server_s: float) -> DeviceState:
        """Return what computing costs now; `server_s` is what the server's part has taken lately."""
        return DeviceState(
            head_s=self._bank.head_s,
            exit_s=self._bank.exit_s,
            local_s=self._bank.local_s,
            encode_s=self._encode.seconds,
            server_s=server_s,
        )

    def encode(self, image_hwc: NDArray[np.uint8], point: OperatingPoint, as_payload: bool) -> Encoded:
        """Run the head of `point` and encode its leading channels, as a payload or as a plain latent."""
        latent_chw, head_s = self._bank.head(point.width_index, image_hwc)
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
            sent = np.arange(len(latent_chw)).reshape(-1, 1, 1) < point.channels
            plain_nchw = np.where(sent, latent_chw, self._zero_points)[np.newaxis]
        encode_s = time.perf_counter() - started
        self._encode.add(encode_s)
        return Encoded(
            latent_chw=latent_chw, payload=payload, plain_nchw=plain_nchw, head_s=head_s, encode_s=encode_s
        )

    def exit_from_image(self, image_hwc: NDArray[np.uint8], point: OperatingPoint) -> tuple[int, float]:
        """Return the class that head and early exit give to an image, and the head's seconds."""
        latent_chw, head_s = self._bank.head(point.width_index, image_hwc)
        return self._bank.exit(latent_chw)[0], head_s

    def local(self, image_hwc: NDArray[np.uint8]) -> int:
        """Return the class the whole network on this device gives to an image."""
        return self._bank.local(image_hwc)[0]

    def answer(
        self, kind: Fallback, image_hwc: NDArray[np.uint8], latent_chw: NDArray[np.uint8]
    ) -> tuple[int, float]:
        """Return the device's own answer to a frame whose latent is there, and the seconds it took."""
        return self._bank.exit(latent_chw) if kind == "exit" else self._bank.local(image_hwc)
