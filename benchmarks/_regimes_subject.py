"""What `regimes` measures of a network: node times, JPEG of photographs, places for a bottleneck."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _networks import data_folder
from numpy.typing import NDArray
from PIL import Image

from isthmus.partitioner import BottleneckRules, DeviceProfile
from isthmus.partitioner.images import jpeg_input
from isthmus.partitioner.network.model import Network, load_network
from isthmus.partitioner.search import RawInput
from isthmus.partitioner.sides import SideMaker
from isthmus.runtime.datasets.folder import cover

_PHOTOGRAPHS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A tensor where a bottleneck may stand: seconds of the head and of the tail on the server."""

    tensor: str
    head_s: float
    tail_s: float
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network with its costs on this machine."""

    network: Network
    maker: SideMaker
    whole_s: float
    spread_s: float
    raw: tuple[RawInput, ...]
    places: tuple[Place, ...]


def measure(file: Path, quality: int, budget_s: float) -> Subject:
    """Return the network in `file`, measured on this machine for about `budget_s` seconds."""
    network = load_network(file)
    maker = SideMaker(network, budget_s=budget_s)
    here = maker.make(DeviceProfile(name="this machine"))
    (name,) = network.graph.inputs
    image = network.graph.tensors[name]
    raw = [RawInput(encoding="uint8", nbytes=image.elements)]
    photographs = _photographs(image.shape or ())
    if photographs is not None:
        raw.append(jpeg_input(photographs, quality, device_slower=1.0, server_slower=1.0))
    return Subject(
        network=network,
        maker=maker,
        whole_s=here.whole_s,
        spread_s=here.costs.whole_spread_s,
        raw=tuple(raw),
        places=_places(network, here.nodes_s()),
    )


def _photographs(shape: Sequence[int]) -> NDArray[np.uint8] | None:
    """Return photographs in the network's size, or None where there are none or it takes other images."""
    files = sorted((data_folder() / "imagenette224" / "val").glob("*/*.JPEG"))
    if not files or len(shape) != 4 or shape[1] != 3 or shape[2] < 64:
        return None
    chosen = [files[index * len(files) // _PHOTOGRAPHS] for index in range(_PHOTOGRAPHS)]
    pixels = []
    for file in chosen:
        with Image.open(file) as image:
            pixels.append(np.asarray(cover(image.convert("RGB"), (shape[2], shape[3])), dtype=np.uint8))
    return np.stack(pixels)


def _places(network: Network, node_s: Mapping[str, float]) -> tuple[Place, ...]:
    """Return the feature and token maps that the partitioner's rules leave for a bottleneck."""
    rules, keys = BottleneckRules(), [node.key for node in network.graph.nodes]
    found = []
    for cut in network.graph.interior_cuts():
        fact = network.graph.tensors[cut.tensor]
        head_s = math.fsum(node_s[key] for key in keys[: cut.head_nodes])
        tail_s = math.fsum(node_s[key] for key in keys[cut.head_nodes :])
        share = head_s / (head_s + tail_s)
        fits = rules.min_head_share <= share <= 1 - rules.min_tail_share
        # A map of tokens [1, n, width] is taken as one of n places; a vector is none.
        wide = fact.shape is not None and (
            min(fact.shape[2:]) >= rules.min_side if len(fact.shape) == 4 else len(fact.shape) == 3
        )
        if fits and wide and fact.dtype.startswith("float"):
            found.append(Place(tensor=cut.tensor, head_s=head_s, tail_s=tail_s, elements=fact.elements))
    return tuple(found)
