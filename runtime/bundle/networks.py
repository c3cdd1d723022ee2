"""Run the networks of a bundle on batches: for export, verification and evaluation.

Decides how a file becomes an ONNX Runtime session on the CPU. Knows nothing of frames and deadlines: the
agent's width bank and the server's backend, where latency counts, set up their own sessions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from isthmus.runtime.bundle.manifest import Manifest
from isthmus.runtime.bundle.store import EXIT, LOCAL, TAIL, head_name
from isthmus.runtime.errors import BundleError

# Batches bound the memory that activations take.
_BATCH = 64


class Network:
    """One ONNX file with one input and one output, on the CPU."""

    def __init__(self, name: str, model: bytes, *, threads: int | None = None) -> None:
        """Load the file `name` with the bytes `model`; `threads` None means one per core.

        Raises:
            BundleError: If ONNX Runtime refuses it, or it has not one input and one output.
        """
        self.name = name
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            (self._input,) = [node.name for node in self._session.get_inputs()]
            (self._output,) = [node.name for node in self._session.get_outputs()]
        except Exception as error:  # ONNX Runtime's errors share no base class but Exception
            raise BundleError(
                f"{name}: ONNX Runtime cannot load it ({_line(error)}); export the bundle again"
            ) from None

    def run(self, value: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the output for uint8 [n, …], computed in batches.

        Raises:
            BundleError: If the network does not take this shape.
        """
        try:
            parts = [self.run_batch(value[start : start + _BATCH]) for start in range(0, len(value), _BATCH)]
        except Exception as error:
            raise BundleError(
                f"{self.name}: does not take {value.dtype} {value.shape} ({_line(error)}); export it again"
            ) from None
        return np.concatenate(parts)

    def run_batch(self, value: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the output for uint8 [n, …] in one call, for timing; errors are ONNX Runtime's own."""
        output: NDArray[Any] = self._session.run([self._output], {self._input: value})[0]
        return output


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleNetworks:
    """The networks of a bundle by role: `heads` per width index, `exit` and `local` where it has them."""

    heads: tuple[Network, ...]
    tail: Network
    exit: Network | None
    local: Network | None


def open_networks(
    manifest: Manifest, present: Collection[str], read: Callable[[str], bytes], *, threads: int | None = None
) -> BundleNetworks:
    """Load all networks of the bundle that `manifest` describes.

    Args:
        manifest: For the widths.
        present: Names of the bundle's files, for the optional ones.
        read: Gives the bytes of a file by its name, e.g. `Bundle.read`.
        threads: Of each network; None means one per core.

    Raises:
        BundleError: If one cannot be loaded.
    """

    def network(name: str) -> Network:
        return Network(name, read(name), threads=threads)

    return BundleNetworks(
        heads=tuple(network(head_name(width)) for width in manifest.widths),
        tail=network(TAIL),
        exit=network(EXIT) if EXIT in present else None,
        local=network(LOCAL) if LOCAL in present else None,
    )


def with_absent(
    latent_nchw: NDArray[np.uint8], channels: int, zero_points: Sequence[int]
) -> NDArray[np.uint8]:
    """Return a copy of `latent_nchw` in which all but the first `channels` are at their zero points."""
    filled = latent_nchw.copy()
    absent = np.array(zero_points[channels:], dtype=np.uint8)
    filled[:, channels:] = absent[:, np.newaxis, np.newaxis]
    return filled


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
