"""Run a tail. The seam is `TailBackend`; the one backend here is ONNX Runtime on whatever the host has.

Decides the execution provider: the fastest that loads and survives the warm-up. Refuses a tail that does not
fit its manifest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from isthmus.runtime.bundle import LatentSpec
from isthmus.runtime.errors import BackendError, BundleError, InputError

log = logging.getLogger("isthmus.server")

# Fastest first.
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


class TailBackend(Protocol):
    """Computes batches of latents, one at a time, in whatever thread calls it.

    Attributes:
        provider: What computes, as ONNX Runtime names it.
        output: Name of the output tensor.
        max_batch: Most rows `run` takes.
        warm_up: Rows and seconds of batches measured while warming up; may be empty.
    """

    provider: str
    output: str
    max_batch: int
    warm_up: Sequence[tuple[int, float]]

    def run(self, latents_nchw: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 [n, classes] for uint8 [n, C, H, W], 1 ≤ n ≤ `max_batch`.

        Raises:
            BackendError: If the computation fails.
        """
        ...


class OnnxRuntimeBackend:
    """A tail in an ONNX Runtime session, warm for every batch size when the constructor returns."""

    def __init__(
        self,
        tail: bytes,
        *,
        latent: LatentSpec,
        classes: int,
        threads: int,
        max_batch: int,
        where: str,
        available: Sequence[str] | None = None,
        wanted: str | None = None,
    ) -> None:
        """Open the ONNX model `tail` and warm it up.

        Args:
            tail: The model's bytes.
            latent: The latent it must take.
            classes: The width of the output it must give.
            threads: Cores that the CPU provider may use.
            max_batch: Most rows of a batch.
            where: The file's name, for messages.
            available: Execution providers to consider; by default those this ONNX Runtime was built with.
            wanted: The one provider that will do; None: the fastest that works.

        Raises:
            BundleError: If no provider can run it, or its input or output does not fit.
            InputError: If `wanted` is not available.
        """
        self.max_batch = max_batch
        self.warm_up: Sequence[tuple[int, float]] = ()
        self._sizes = warm_up_sizes(max_batch)
        found = ort.get_available_providers() if available is None else available
        chain = [provider for provider in PROVIDERS if provider in found and wanted in (None, provider)]
        if not chain:
            raise InputError(
                f"this ONNX Runtime has no {wanted}, only {', '.join(found)}; install onnxruntime-gpu, "
                "or give --provider auto"
            )
        log.info("%s: execution providers here: %s", where, ", ".join(found))
        for position, provider in enumerate(chain):
            try:
                self._session = _open(tail, chain[position:], threads)
                if wanted is not None and self._session.get_providers()[0] != wanted:
                    raise BundleError(
                        f"{where}: {wanted} is installed but cannot be loaded here; see its log"
                    )
                self._input = self._check_forms(latent, classes, where)
                self._warm_up(latent, classes, where)
                return
            except BundleError:
                raise
            except Exception as error:  # a provider may fail in any way: try the next
                if provider == chain[-1]:
                    raise BundleError(f"{where}: ONNX Runtime cannot run it: {_one_line(error)}") from None
                log.warning("%s: %s does not run it, trying the next: %s", where, provider, _one_line(error))

    def run(self, latents_nchw: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `TailBackend.run`."""
        rows = len(latents_nchw)
        if self.provider != "CPUExecutionProvider":
            # A GPU chooses its kernels anew for every shape it has not seen; padding keeps to the warm ones.
            size = next(size for size in self._sizes if size >= rows)
            latents_nchw = np.pad(latents_nchw, ((0, size - rows), (0, 0), (0, 0), (0, 0)))
        try:
            (outputs,) = self._session.run([self.output], {self._input: latents_nchw})
        except Exception as error:
            raise BackendError(f"the tail failed on a batch of {rows}: {_one_line(error)}") from error
        return np.asarray(outputs, np.float32)[:rows]

    def _check_forms(self, latent: LatentSpec, classes: int, where: str) -> str:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        wanted_in = [None, latent.channels, latent.height, latent.width]
        if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or not _fits(inputs[0].shape, wanted_in):
            raise BundleError(
                f"{where}: takes {_forms(inputs)}, not one uint8 [n, {latent.channels}, {latent.height}, "
                f"{latent.width}] as manifest.json says; export the bundle again"
            )
        scores = outputs[0]
        if len(outputs) != 1 or scores.type != "tensor(float)" or not _fits(scores.shape, [None, classes]):
            raise BundleError(
                f"{where}: gives {_forms(outputs)}, not one float [n, {classes}] as manifest.json says; "
                "export the bundle again"
            )
        self.output = scores.name
        return str(inputs[0].name)

    def _warm_up(self, latent: LatentSpec, classes: int, where: str) -> None:
        self.provider = self._session.get_providers()[0]
        started_s = time.monotonic()
        # The smallest and the largest first: TensorRT then builds an engine for the whole range at once.
        for size in dict.fromkeys((1, self.max_batch, *self._sizes)):
            shape = (size, latent.channels, latent.height, latent.width)
            outputs = self.run(np.zeros(shape, np.uint8))
            if outputs.shape != (size, classes):
                raise BundleError(
                    f"{where}: gives shape {outputs.shape} for a batch of {size}, not {(size, classes)}"
                )
            # The first run of a size allocates; the second is what serving will see.
            began_s = time.perf_counter()
            self.run(np.zeros(shape, np.uint8))
            self.warm_up = (*self.warm_up, (size, time.perf_counter() - began_s))
        log.info("%s: %s, warm in %.2f s", where, self.provider, time.monotonic() - started_s)


def warm_up_sizes(max_batch: int) -> tuple[int, ...]:
    """Return the batch sizes to warm up, ascending: powers of two, and `max_batch` itself."""
    powers = [1 << power for power in range(max_batch.bit_length()) if 1 << power < max_batch]
    return (*powers, max_batch)


def _open(tail: bytes, providers: Sequence[str], threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would take the cores from the event loop and from other tails.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # ONNX Runtime's own fallback prints on standard output, where our ready line goes.
    return ort.InferenceSession(tail, options, providers=list(providers), enable_fallback=0)


def _fits(shape: Sequence[Any], wanted: Sequence[int | None]) -> bool:
    """Say whether an ONNX shape can be `wanted`; None wants a dimension that varies, which has a name."""
    if len(shape) != len(wanted):
        return False
    return all(not isinstance(size, int) or size == want for size, want in zip(shape, wanted, strict=True))


def _forms(values: Sequence[Any]) -> str:
    return ", ".join(f"{value.name} {value.type} {list(value.shape)}" for value in values) or "nothing"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
