"""Run a tail with torch, on the CPU or a CUDA device; there one captured graph per batch size.

Decides the device, and refuses a precision that changes answers: before it serves, the tail must give the
bundle's golden outputs. torch is imported only here, and only when this backend is asked for.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import GOLDEN, TAIL_ATEN, Bundle
from isthmus.runtime.bundle.aten_graph import build
from isthmus.runtime.bundle.networks import with_absent
from isthmus.runtime.errors import BackendError, BundleError, GateError, InputError, MissingExtraError
from isthmus.runtime.server.backend import warm_up_sizes
from isthmus.runtime.server.config import ServerConfig

log = logging.getLogger("isthmus.server")

_TYPE_OF = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# Largest difference from the golden outputs, as a share of their range. Half a unit of bf16's mantissa is
# 0.2 %; some ten layers' worth of it must not move an answer further than this.
_TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2, "fp16": 5e-3}


class TorchBackend:
    """A tail in torch, warm for every batch size when the constructor returns; see `TailBackend`."""

    output = "logits"

    def __init__(
        self, module: Any, *, shape_chw: tuple[int, int, int], device: str, precision: str, max_batch: int
    ):
        """Warm `module` up, which takes uint8 [n, C, H, W] on `device`, and capture its graphs on CUDA."""
        import torch

        self.max_batch = max_batch
        self.provider = f"torch-{torch.device(device).type}-{precision}"
        self.warm_up: Sequence[tuple[int, float]] = ()
        self._torch = torch
        self._module = module
        self._device = torch.device(device)
        self._sizes = warm_up_sizes(max_batch)
        self._captured: dict[int, tuple[Any, Any, Any]] = {}
        for size in dict.fromkeys((max_batch, *self._sizes)):
            self._warm(np.zeros((size, *shape_chw), np.uint8))

    @classmethod
    def open(cls, bundle: Bundle, config: ServerConfig) -> TorchBackend:
        """Open the tail of `bundle` as `config` asks, and compare it with the golden outputs.

        Raises:
            BundleError: If the bundle has no tail for torch, or it is malformed.
            GateError: If its answers differ from the golden ones by more than the precision explains.
            InputError: If there is no CUDA device and one was asked for.
            MissingExtraError: If torch is not installed.
        """
        try:
            import torch
        except ModuleNotFoundError:
            raise MissingExtraError("--backend torch", "train") from None
        where = str(bundle.root / TAIL_ATEN)
        if not bundle.has(TAIL_ATEN):
            raise BundleError(f"{where}: the bundle has no tail for torch; export it with --torch")
        if config.provider == "cuda" and not torch.cuda.is_available():
            raise InputError("--provider cuda: torch finds no CUDA device here; give --provider auto")
        device = "cuda" if config.provider != "cpu" and torch.cuda.is_available() else "cpu"
        torch.set_num_threads(config.threads)
        module = build(
            bundle.read(TAIL_ATEN), where=where, device=device, precision=_TYPE_OF[config.precision]
        )
        latent = bundle.manifest.latent
        started_s = time.monotonic()
        backend = cls(
            module,
            shape_chw=(latent.channels, latent.height, latent.width),
            device=device,
            precision=config.precision,
            max_batch=config.max_batch,
        )
        error = golden_error(backend, bundle)
        if not error <= _TOLERANCE[config.precision]:
            raise GateError(
                f"{where}: in {config.precision} its answers differ from the golden ones by {error:.2g} of "
                f"their range (allowed: {_TOLERANCE[config.precision]:g}); give --precision fp32"
            )
        log.info(
            "%s: %s, %.1g of the range from the golden outputs, warm in %.2f s",
            where,
            backend.provider,
            error,
            time.monotonic() - started_s,
        )
        return backend

    def run(self, latents_nchw: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `TailBackend.run`."""
        rows = len(latents_nchw)
        torch = self._torch
        try:
            with torch.inference_mode():
                # An array of gRPC's bytes is read-only, which torch would warn of.
                latents = torch.from_numpy(np.require(latents_nchw, requirements=("C", "W")))
                if self._device.type == "cuda":
                    return self._replay(latents)
                outputs: NDArray[np.float32] = self._module(latents).float().numpy()
                return outputs
        except Exception as error:
            reason = " ".join(str(error).split())
            raise BackendError(f"the tail failed on a batch of {rows}: {reason}") from error

    def _replay(self, latents: Any) -> NDArray[np.float32]:
        rows = len(latents)
        size = next(size for size in self._sizes if size >= rows)
        graph, given, outputs = self._captured[size]
        given[:rows].copy_(latents, non_blocking=True)
        graph.replay()
        # To the host: waits for the graph.
        result: NDArray[np.float32] = outputs[:rows].float().cpu().numpy()
        return result

    def _warm(self, latents_nchw: NDArray[np.uint8]) -> None:
        size = len(latents_nchw)
        if self._device.type == "cuda":
            self._capture(latents_nchw)
        self.run(latents_nchw)
        began_s = time.perf_counter()
        outputs = self.run(latents_nchw)
        self.warm_up = (*self.warm_up, (size, time.perf_counter() - began_s))
        if outputs.ndim != 2 or len(outputs) != size:
            raise BundleError(
                f"the torch tail gives shape {outputs.shape} for a batch of {size}; export it again"
            )

    def _capture(self, latents_nchw: NDArray[np.uint8]) -> None:
        """Capture a CUDA graph of this batch size, after the three runs that torch's manual asks for."""
        torch = self._torch
        with torch.inference_mode():
            given = torch.from_numpy(latents_nchw).to(self._device)
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._module(given)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = self._module(given)
            self._captured[len(latents_nchw)] = (graph, given, outputs)


def golden_error(backend: Any, bundle: Bundle) -> float:
    """Return the largest difference of `backend` from the golden outputs, as a share of their range.

    Raises:
        BundleError: If the golden vectors cannot be read.
    """
    try:
        with np.load(io.BytesIO(bundle.read(GOLDEN)), allow_pickle=False) as golden:
            arrays = {name: golden[name] for name in golden.files}
        pairs = [
            (
                with_absent(
                    arrays[f"latents_{point.width_index}"], point.channels, bundle.manifest.latent.zero_points
                ),
                arrays[f"outputs_{point.width_index}_{point.channels}"],
            )
            for point in bundle.manifest.points
        ]
    except (ValueError, KeyError, OSError) as error:
        raise BundleError(
            f"{bundle.root / GOLDEN}: cannot be read ({error}); export the bundle again"
        ) from None
    worst = 0.0
    for latents, expected in pairs:
        for start in range(0, len(latents), backend.max_batch):
            rows = slice(start, start + backend.max_batch)
            found = backend.run(latents[rows])
            span = float(expected.max() - expected.min()) or 1.0
            worst = max(worst, float(np.abs(found - expected[rows]).max()) / span)
    return worst
