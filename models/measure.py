"""Measure what every operating point of a bundle is worth and costs, on the exported files.

Decides how utilities, bytes and times are taken. Everything runs through ONNX Runtime and the real coder;
nothing here asks a torch module. Contenders are timed in turns, so that a busy moment of the machine hits
all alike.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import DeviceAnswer, OperatingPoint, PointRecord, PointTable
from isthmus.runtime.bundle.networks import BundleNetworks, Network, with_absent
from isthmus.runtime.codecs import FrequencyTables, decode_payload, encode_payload
from isthmus.runtime.datasets import ImageSet, spread
from isthmus.runtime.errors import GateError

# Payload sizes vary little from image to image; times vary with the machine's other work.
_BYTES_IMAGES = 500
_MAX_ROUNDS, _MIN_ROUNDS, _TIMING_S = 200, 15, 2.0
_WARM_ROUNDS = 3


def measure_points(
    networks: BundleNetworks,
    timed: BundleNetworks,
    *,
    points: tuple[OperatingPoint, ...],
    zero_points: tuple[int, ...],
    tables: FrequencyTables,
    images: ImageSet,
    teacher_utility: float,
    host: str,
    progress: Callable[[str], None] | None = None,
) -> PointTable:
    """Return the table of `points`, measured on `images`.

    Args:
        networks: Run for accuracy and bytes.
        timed: The same networks with the threads that the device will use, run for times.
        points: The operating points.
        zero_points: Per latent channel, what an absent value becomes.
        tables: Frequency tables of the payloads, fitted on other images.
        images: Labelled images that neither the bottleneck nor the tables have seen.
        teacher_utility: Accuracy of the uncut network on the same images.
        host: What `host_name` says of `timed`.
        progress: Called with what is being measured.

    Raises:
        GateError: If a payload does not decode to its latent.
    """
    say = progress or (lambda _what: None)
    latents = []
    for width_index, head in enumerate(networks.heads):
        say(f"head {width_index + 1} of {len(networks.heads)}")
        latents.append(head.run(images.images))
    say("times")
    seconds = _median_seconds(timed, images.images[:1], latents[-1][:1])
    records = []
    for number, point in enumerate(points):
        say(f"operating point {number + 1} of {len(points)}")
        latent = latents[point.width_index]
        utility = accuracy(networks.tail.run(with_absent(latent, point.channels, zero_points)), images.labels)
        sizes = payload_sizes(latent[spread(len(latent), _BYTES_IMAGES)], point, tables)
        records.append(
            PointRecord(
                point=point,
                utility=utility,
                bytes_mean=float(sizes.mean()),
                bytes_p95=float(np.percentile(sizes, 95)),
                bytes_max=int(sizes.max()),
                head_s=seconds[timed.heads[point.width_index].name],
            )
        )
    return PointTable(
        measured_on=images.name,
        host=host,
        teacher_utility=teacher_utility,
        records=tuple(records),
        exits=_exits(networks, latents, images.labels, seconds),
        local=_local(networks, images, seconds),
        tail_s=seconds[networks.tail.name],
    )


def payload_sizes(
    latents_nchw: NDArray[np.uint8], point: OperatingPoint, tables: FrequencyTables
) -> NDArray[np.int64]:
    """Return the bytes of each latent's `rans` payload at `point`, header included (int64 [n]).

    Raises:
        GateError: If a payload does not decode to its latent.
    """
    sizes = []
    for latent in latents_nchw:
        sent = latent[: point.channels]
        payload = encode_payload(sent, codec="rans", width_index=point.width_index, tables=tables)
        back = decode_payload(payload, tables=tables, max_latent_bytes=latent.size, expect=latent.shape)
        if not np.array_equal(back.latent_chw, sent):
            raise GateError(
                f"a payload at {point} decodes to another latent; the coder is broken on this machine"
            )
        sizes.append(len(payload))
    return np.array(sizes, dtype=np.int64)


def accuracy(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Return the share of rows of `logits` [n, classes] whose largest value is at the label."""
    return float((logits.argmax(axis=1) == labels).mean())


def host_name(threads: int) -> str:
    """Return this machine's processor and the threads used, as text for `PointTable.host`."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux: the name above is what there is
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def _exits(
    networks: BundleNetworks,
    latents: list[NDArray[Any]],
    labels: NDArray[np.int64],
    seconds: Mapping[str, float],
) -> tuple[DeviceAnswer, ...]:
    exit_network = networks.exit
    if exit_network is None:
        return ()
    return tuple(
        DeviceAnswer(
            utility=accuracy(exit_network.run(latent), labels),
            compute_s=seconds[exit_network.name],
            width_index=width_index,
        )
        for width_index, latent in enumerate(latents)
    )


def _local(networks: BundleNetworks, images: ImageSet, seconds: Mapping[str, float]) -> DeviceAnswer | None:
    if networks.local is None:
        return None
    utility = accuracy(networks.local.run(images.images), images.labels)
    return DeviceAnswer(utility=utility, compute_s=seconds[networks.local.name])


def _median_seconds(
    networks: BundleNetworks, image_nhwc: NDArray[np.uint8], latent_nchw: NDArray[np.uint8]
) -> dict[str, float]:
    """Return the median seconds of one input through each network, by its name, all timed in turns."""
    contenders = [(head, image_nhwc) for head in networks.heads] + [(networks.tail, latent_nchw)]
    if networks.exit is not None:
        contenders.append((networks.exit, latent_nchw))
    if networks.local is not None:
        contenders.append((networks.local, image_nhwc))
    return median_seconds(contenders)


def median_seconds(contenders: Sequence[tuple[Network, NDArray[np.uint8]]]) -> dict[str, float]:
    """Return the median seconds of each network for its input, by the network's name, all timed in turns."""
    samples: dict[str, list[float]] = {network.name: [] for network, _ in contenders}
    ends = time.perf_counter() + _TIMING_S
    for number in range(_WARM_ROUNDS + _MAX_ROUNDS):
        if number >= _WARM_ROUNDS + _MIN_ROUNDS and time.perf_counter() > ends:
            break
        for network, value in contenders:
            started = time.perf_counter()
            network.run_batch(value)
            elapsed = time.perf_counter() - started
            if number >= _WARM_ROUNDS:
                samples[network.name].append(elapsed)
    return {name: float(np.median(values)) for name, values in samples.items()}
