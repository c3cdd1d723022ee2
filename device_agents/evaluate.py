"""Measure a bundle the way it is used: heads here, payloads over gRPC, tails on a server of the same bundle.

Decides how accuracy and bytes of an operating point are measured on test images. No torch module and no
tail of this
process is asked: what is reported is what a device and a server answer together. Knows no deadline: every
frame is sent without one, and waits for its answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.uplink.inquiry import Inquiry
from isthmus.runtime.bundle import TABLES, Bundle, Manifest, OperatingPoint
from isthmus.runtime.codecs import FrequencyTables, encode_payload
from isthmus.runtime.datasets import ImageSet, load_prepared
from isthmus.runtime.wire import InferenceStub
from isthmus.runtime.wire.tls import DEFAULT_SECURITY, ClientSecurity

_Z_95 = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of `count` images, in [0, 1], with its 95 % confidence interval.

    The interval is Wilson's (E. B. Wilson, 1927), which stays inside [0, 1] and is honest near its ends.
    """

    value: float
    low: float
    high: float
    count: int

    @property
    def margin(self) -> float:
        """The larger distance from the value to an end of the interval."""
        return max(self.value - self.low, self.high - self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointScore:
    """One operating point, answered by the server.

    Attributes:
        point: The operating point.
        accuracy: Of the server's answers.
        bytes_mean, bytes_p95, bytes_max: Payload bytes, header included.
        head_s: Median seconds of one image through the head on this machine.
        agreement: Share of images answered as the uncut network does; None if the bundle carries no
            local.onnx.
        answers: int64 [n], the class the server answered for each image.
    """

    point: OperatingPoint
    accuracy: Share
    bytes_mean: float
    bytes_p95: float
    bytes_max: int
    head_s: float
    agreement: Share | None
    answers: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A bundle on a set of images.

    Attributes:
        images: Name of the set.
        count: Its images.
        server: What the server says it is.
        points: In the manifest's order.
        exits: Accuracy of the early exit per width index; empty without one.
        local: Accuracy of the uncut network on the device; None if the bundle carries none.
        codec: How latents were encoded.
    """

    images: str
    count: int
    server: str
    points: tuple[PointScore, ...]
    exits: tuple[Share, ...]
    local: Share | None
    codec: str


def share_of(right: int, count: int) -> Share:
    """Return `right` of `count` as a share with its interval."""
    value, z2 = right / count, _Z_95**2
    centre = (value + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z_95 * math.sqrt(value * (1 - value) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    # At the ends the formula gives 0 and 1 up to rounding.
    low, high = max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half))
    return Share(value=value, low=low, high=high, count=count)


def load_test_images(bundle: Bundle, spec: str, *, limit: int | None = None) -> ImageSet:
    """Load the test part of the data set `spec`, as the heads of `bundle` take images.

    Raises:
        InputError: If the data set cannot be used or does not fit the bundle.
    """
    wanted = bundle.manifest.input
    images = load_prepared(
        spec,
        split="test",
        size=(wanted.height, wanted.width),
        arrays_too="train_size" in bundle.manifest.provenance,
        limit=limit,
    )
    images = images.with_classes(bundle.manifest.labels)
    images.check_fits((wanted.height, wanted.width, wanted.channels), bundle.manifest.labels)
    return images


async def evaluate(
    bundle: Bundle,
    images: ImageSet,
    *,
    server: str,
    model: str | None = None,
    codec: str = "rans",
    security: ClientSecurity = DEFAULT_SECURITY,
    threads: int = 1,
    progress: Callable[[str, float], None] | None = None,
) -> Evaluation:
    """Measure every operating point of `bundle` on `images`, answered by the server at `server`.

    Args:
        bundle: The bundle; the server must have loaded the same.
        images: Labelled images that nothing was trained, fitted or chosen on.
        server: HOST:PORT of a server of the Open Inference Protocol.
        model: Name of the model there; None: the bundle's.
        codec: How latents are encoded; a server that takes plain latents only gets those, the bytes stay
            the codec's.
        security: How the server is spoken to.
        threads: ONNX Runtime threads per head.
        progress: Called with what is being done and the share that is done.

    Raises:
        InputError: If the images do not fit the bundle.
        NetworkError: If the server cannot be reached or lacks the model.
        PeerError: If it hosts another model, refuses a frame or answers nonsense.
        AccessError: If TLS or authentication fails.
    """
    manifest = bundle.manifest
    images.check_fits((manifest.input.height, manifest.input.width, manifest.input.channels), manifest.labels)
    say = progress or (lambda _what, _share: None)
    tables = FrequencyTables.from_bytes(bundle.read(TABLES), source=str(bundle.root / TABLES))
    bank = WidthBank(bundle, threads=threads)
    local = None
    if bank.local_s is not None:
        say("the uncut network", 0.0)
        local = np.array([bank.local(image)[0] for image in images.images])
    points: list[PointScore] = []
    exits: list[Share] = []
    security.check(server)
    async with security.channel(server) as channel:
        stub = InferenceStub(channel, security.metadata(server))
        inquiry = Inquiry(stub, server, model or manifest.name, manifest, security)
        await inquiry.connect()
        for width_index in range(len(manifest.widths)):
            latents, head_s = _run_head(bank, width_index, images.images)
            if bank.exit_s is not None:
                exits.append(
                    _agreement(np.array([bank.exit(latent)[0] for latent in latents]), images.labels)
                )
            for point in manifest.points:
                if point.width_index != width_index:
                    continue
                say(_describe(point, manifest), len(points) / len(manifest.points))
                sent = [latent[: point.channels] for latent in latents]
                payloads = [
                    encode_payload(latent, codec=codec, width_index=width_index, tables=tables)
                    for latent in sent
                ]
                answers = await inquiry.ask(payloads, latents, point)
                points.append(_score(point, answers, images.labels, payloads, head_s, local))
    return Evaluation(
        images=images.name,
        count=len(images),
        server=inquiry.server_name,
        points=tuple(sorted(points, key=lambda score: manifest.points.index(score.point))),
        exits=tuple(exits),
        local=None if local is None else _agreement(local, images.labels),
        codec=codec,
    )


def _describe(point: OperatingPoint, manifest: Manifest) -> str:
    return f"width {manifest.widths[point.width_index]:g}, {point.channels} channels"


def _run_head(
    bank: WidthBank, width_index: int, images_nhwc: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], float]:
    """Return the latents [n, C, h, w] of all images, one by one as an agent runs them, and median seconds."""
    runs = [bank.head(width_index, image) for image in images_nhwc]
    return np.stack([latent for latent, _ in runs]), float(np.median([seconds for _, seconds in runs]))


def _agreement(answers: NDArray[np.int64], truth: NDArray[np.int64]) -> Share:
    return share_of(int((answers == truth).sum()), len(truth))


def _score(
    point: OperatingPoint,
    answers: NDArray[np.int64],
    labels: NDArray[np.int64],
    payloads: Sequence[bytes],
    head_s: float,
    local: NDArray[np.int64] | None,
) -> PointScore:
    sizes = np.array([len(payload) for payload in payloads])
    return PointScore(
        point=point,
        accuracy=_agreement(answers, labels),
        bytes_mean=float(sizes.mean()),
        bytes_p95=float(np.percentile(sizes, 95)),
        bytes_max=int(sizes.max()),
        head_s=head_s,
        agreement=None if local is None else _agreement(answers, local),
        answers=answers,
    )
