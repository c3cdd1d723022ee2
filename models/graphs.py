"""The ONNX files of a bundle: written from a split network, compared with it.

Decides which graphs there are and what their inputs and outputs are called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isthmus.models.onnx_export import export_module
from isthmus.models.parity import check_latents, check_logits
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.bundle import EXIT, LOCAL, TAIL, head_name
from isthmus.runtime.bundle.networks import BundleNetworks


def write_graphs(
    network: SplitNetwork, root: Path, *, local: bool, progress: Callable[[str], None]
) -> dict[str, nn.Module]:
    """Write heads, tail, exit and, with `local`, the uncut network into `root`.

    Returns:
        The torch module that each file, by its name in the bundle, was written from.

    Raises:
        GateError: If a width was never calibrated.
        InputError: If a module cannot be exported.
    """
    modules = _modules(network, local=local)
    for number, (file, module) in enumerate(modules.items()):
        progress(f"{file} ({number + 1} of {len(modules)})")
        _write_graph(root / file, module, network)
    return modules


def check_graphs(
    modules: Mapping[str, nn.Module], networks: BundleNetworks, images_nhwc: NDArray[np.uint8]
) -> None:
    """Compare every exported network with the module it was written from, on real images.

    Raises:
        GateError: If one computes something else, or does not depend on the image.
    """
    for head in networks.heads:
        latents = check_latents(modules[head.name], head, images_nhwc)
    check_logits(modules[TAIL], networks.tail, latents)
    if networks.exit is not None:
        check_logits(modules[EXIT], networks.exit, latents)
    if networks.local is not None:
        check_logits(modules[LOCAL], networks.local, images_nhwc)


def _modules(network: SplitNetwork, *, local: bool) -> dict[str, nn.Module]:
    modules = {
        head_name(width): network.materialise_head(index) for index, width in enumerate(network.config.widths)
    }
    modules[TAIL] = network.materialise_tail()
    early_exit = network.materialise_exit()
    if early_exit is not None:
        modules[EXIT] = early_exit
    if local:
        modules[LOCAL] = network.materialise_teacher()
    return modules


def _write_graph(path: Path, module: nn.Module, network: SplitNetwork) -> None:
    config = network.config
    takes_image = path.name not in (TAIL, EXIT)
    if takes_image:
        shape = (2, config.input_height, config.input_width, config.input_channels)
    else:
        shape = (2, config.channels, config.latent_height, config.latent_width)
    export_module(
        module,
        torch.zeros(shape, dtype=torch.uint8),
        path,
        input_name="image" if takes_image else "latent",
        output_name="logits" if path.name in (TAIL, EXIT, LOCAL) else "latent",
    )
