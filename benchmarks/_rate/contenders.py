"""The ways to get an answer that run a network on the device: all of it, up to a cut, or a bottleneck's head.

Every contender yields `Setting`s over the same images, answered by the same uncut network or by exported
bundles, all on ONNX Runtime.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from _rate.curves import Setting
from _rate.tasks import Part, Task
from isthmus.models.cutting import split_at
from isthmus.models.onnx_export import export_module
from isthmus.models.split_network import Normalise, tensor_digest
from isthmus.runtime.bundle import TABLES, Bundle
from isthmus.runtime.bundle.networks import Network, open_networks, with_absent
from isthmus.runtime.codecs import FrequencyTables, encode_payload

UNCUT = "uncut network"
_TIMED_IMAGES, _TIMED_ROUNDS = 16, 5
Codes = NDArray[np.uint8]


class UncutNetwork:
    """The task's network on ONNX Runtime, from uint8 images."""

    def __init__(self, task: Task, threads: int) -> None:
        """Export and load the whole of `task`'s network."""
        self.digest = tensor_digest(task.teacher)
        image = torch.from_numpy(task.parts[0].images_nhwc[:1])
        self._network = _network(nn.Sequential(_normalise(task), task.teacher), image, threads)

    def answer(self, images_nhwc: Codes) -> NDArray[np.int64]:
        """Return the class answered for each image, int64 [n]."""
        return _answers(self._network.run(images_nhwc))

    def setting(self, part: Part) -> Setting:
        """Return the network itself as a contender that sends nothing."""
        return Setting(
            method=UNCUT,
            setting="on the device",
            sizes_n=np.zeros(len(part.truth_n), dtype=np.int64),
            answers_n=self.answer(part.images_nhwc),
            device_s=median_seconds(self._network.run_batch, part.images_nhwc),
        )


def raw_features(task: Task, part: Part, cut: str, threads: int) -> Iterator[Setting]:
    """Yield the features at `cut` as 8-bit integers between each image's extremes, bare and packed with LZ4.

    The second is the coder of SPINN (Laskaridis et al., MobiCom 2020). The extremes travel as two floats.
    """
    front, back = split_at(task.teacher, cut)
    head = nn.Sequential(_normalise(task), front)
    image = torch.from_numpy(part.images_nhwc[:1])
    head_network = _network(head, image, threads)
    with torch.no_grad():
        tail_network = _network(back, head(image), threads)
    features = head_network.run(part.images_nhwc)
    low = features.min(axis=(1, 2, 3), keepdims=True)
    step = np.maximum(features.max(axis=(1, 2, 3), keepdims=True) - low, 1e-12) / 255
    codes = np.rint((features - low) / step).astype(np.uint8)
    answers = _answers(tail_network.run((codes * step + low).astype(np.float32)))
    seconds = median_seconds(head_network.run_batch, part.images_nhwc)
    bare = np.full(len(codes), codes[0].size + 8, dtype=np.int64)
    packed = [encode_payload(code, codec="bitshuffle-lz4", width_index=0, tables=None) for code in codes]
    yield Setting(method="uint8 features", setting=cut, sizes_n=bare, answers_n=answers, device_s=seconds)
    yield Setting(
        method="uint8 + LZ4",
        setting=cut,
        sizes_n=np.array([len(payload) + 8 for payload in packed], dtype=np.int64),
        answers_n=answers,
        device_s=seconds,
    )


def bottleneck(method: str, bundle: Bundle, part: Part, *, codec: str, threads: int) -> Iterator[Setting]:
    """Yield every operating point of `bundle`, its payloads coded with `codec`."""
    manifest = bundle.manifest
    tables = FrequencyTables.from_bytes(bundle.read(TABLES), source=str(bundle.root / TABLES))
    networks = open_networks(manifest, tuple(manifest.files), bundle.read, threads=threads)
    latents = [head.run(part.images_nhwc) for head in networks.heads]
    seconds = [median_seconds(head.run_batch, part.images_nhwc) for head in networks.heads]
    for point in manifest.points:
        width = manifest.widths[point.width_index]
        latent, head_s = latents[point.width_index], seconds[point.width_index]

        def code(codes_nchw: Codes, index: int = point.width_index, channels: int = point.channels) -> bytes:
            sent = codes_nchw[0, :channels]
            return encode_payload(sent, codec=codec, width_index=index, tables=tables)

        filled = with_absent(latent, point.channels, manifest.latent.zero_points)
        yield Setting(
            method=method,
            setting=f"{bundle.root.name}: width {width:g}, {point.channels} channels",
            sizes_n=np.array([len(code(one[None])) for one in latent], dtype=np.int64),
            answers_n=_answers(networks.tail.run(filled)),
            device_s=head_s + median_seconds(code, latent),
            head_s=head_s,
            point=(width, point.channels),
        )


def _network(module: nn.Module, example: torch.Tensor, threads: int) -> Network:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export_module(module.eval(), example, file, input_name="input", output_name="output")
        return Network(type(module).__name__, file.read_bytes(), threads=threads)


def _normalise(task: Task) -> Normalise:
    return Normalise(task.mean, task.std)


def _answers(logits_nk: NDArray[np.float32]) -> NDArray[np.int64]:
    return logits_nk.argmax(axis=1).astype(np.int64)


def median_seconds(work: Callable[[Codes], object], values_n: Codes) -> float:
    """Return the median seconds of `work` on one image or latent."""
    chosen: Sequence[int] = np.linspace(0, len(values_n) - 1, _TIMED_IMAGES).astype(int).tolist()
    work(values_n[:1])
    taken = []
    for _ in range(_TIMED_ROUNDS):
        for index in chosen:
            started = time.perf_counter()
            work(values_n[index : index + 1])
            taken.append(time.perf_counter() - started)
    return float(np.median(taken))
