"""The two tails that servers are loaded with, and frames for them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _peers.places import PROJECT
from isthmus.runtime.bundle import GOLDEN, TABLES, TAIL, Bundle, load_bundle
from isthmus.runtime.codecs import FrequencyTables, encode_payload
from isthmus.runtime.errors import InputError

CIFAR = PROJECT / "runs/cifar10-bundle"
MOBILENET = PROJECT / "runs/mobilenetv2-serving-bundle"
# Late enough to leave the device a head worth having, and early enough to leave the server some work.
_CUT = "features.13"
_IMAGES = 64
_MIXED = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tail:
    """A bundle and frames for it.

    Attributes:
        name: For the record.
        bundle: Whose tail is served.
        latents_nchw: uint8 [n, C, H, W], complete.
        scores_nc: float32 [n, classes], what the tail must answer to them.
        payloads: The same latents encoded, per operating point of the widest head that is used: the
            narrowest, one in between, and the last, which is complete.
    """

    name: str
    bundle: Bundle
    latents_nchw: NDArray[np.uint8]
    scores_nc: NDArray[np.float32]
    payloads: tuple[tuple[bytes, ...], ...]

    @property
    def onnx(self) -> Path:
        """The file that other servers host."""
        return self.bundle.root / TAIL


def load_tail(name: str, root: Path) -> Tail:
    """Return the tail of the bundle in `root`, with its golden latents as frames.

    Raises:
        InputError: If there is no bundle, and how to make one.
        BundleError: If it cannot be used.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no bundle for {name}; export one there, or give --option {name}=DIR")
    bundle = load_bundle(root)
    widest = len(bundle.manifest.widths) - 1
    counts = [point.channels for point in bundle.manifest.points if point.width_index == widest]
    chosen = sorted({counts[0], counts[len(counts) // 2], counts[-1]})[-_MIXED:]
    tables = FrequencyTables.from_bytes(bundle.read(TABLES))
    with np.load(bundle.root / GOLDEN) as golden:
        latents = golden[f"latents_{widest}"]
        scores = golden[f"outputs_{widest}_{counts[-1]}"]
    payloads = tuple(
        tuple(
            encode_payload(latent[:count], codec="rans", width_index=widest, tables=tables)
            for latent in latents
        )
        for count in chosen
    )
    return Tail(name=name, bundle=bundle, latents_nchw=latents, scores_nc=scores, payloads=payloads)


def make_mobilenet(root: Path = MOBILENET) -> Path:
    """Export MobileNetV2 with its published weights behind an untrained bottleneck, unless it is there.

    What the tail answers is worth nothing; what it costs does not depend on that.

    Raises:
        InputError: If the real weights or images are not here.
    """
    if root.is_dir():
        return root
    import torch
    from _rate.tasks import load_task

    from isthmus.models.design import design
    from isthmus.models.export import export_bundle
    from isthmus.models.size import BottleneckSize
    from isthmus.models.split_network import SplitNetwork
    from isthmus.runtime.datasets import ImageSet

    print(f"exporting {root}, once", file=sys.stderr)
    task = load_task("imagenette-mobilenetv2", limit=_IMAGES)
    labels = tuple(f"class {index}" for index in range(1000))
    part = task.parts[0]
    images = ImageSet(images=part.images_nhwc, labels=part.truth_n, classes=labels, name="imagenette, some")
    torch.manual_seed(0)
    size = BottleneckSize(
        channels=24,
        channel_counts=(3, 13, 24),
        encoder=((32, 0), (64, 2), (96, 3)),
        decoder_channels=96,
        exit_channels=0,
        widths=(1.0,),
        structure={"strides": (4, 2, 2), "stem_kernel": 7, "block": "inverted"},
    )
    config = design(
        task.ref,
        task.teacher,
        cut=_CUT,
        shape_hwc=images.shape_hwc,
        labels=labels,
        size=size,
        mean=task.mean,
        std=task.std,
    )
    network = SplitNetwork(config, task.teacher)
    with torch.no_grad():
        network.calibrate([torch.from_numpy(images.images[:32])])
    export_bundle(
        network.eval(), root, train=images, calibration=images, name="mobilenet-v2", torch_tail=True
    )
    return root
