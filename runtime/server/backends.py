"""Which backend computes a bundle's tail."""

from __future__ import annotations

from isthmus.runtime.bundle import TAIL, Bundle
from isthmus.runtime.server.backend import PROVIDERS, OnnxRuntimeBackend, TailBackend
from isthmus.runtime.server.config import ServerConfig

# What a user calls an execution provider.
_PROVIDER_OF = dict(zip(("tensorrt", "cuda", "cpu"), PROVIDERS, strict=True))


def open_backend(bundle: Bundle, config: ServerConfig) -> TailBackend:
    """Return the tail of `bundle`, warm, on the backend and device that `config` asks for.

    Raises:
        BundleError: If it cannot be used.
        GateError: If the backend's precision costs accuracy.
        InputError: If the device asked for is not there.
        MissingExtraError: If the backend asked for is not installed.
    """
    if config.backend == "torch":
        from isthmus.runtime.server.torch_backend import TorchBackend

        return TorchBackend.open(bundle, config)
    return OnnxRuntimeBackend(
        bundle.read(TAIL),
        latent=bundle.manifest.latent,
        classes=len(bundle.manifest.labels),
        threads=config.threads,
        max_batch=config.max_batch,
        where=str(bundle.root / TAIL),
        wanted=None if config.provider == "auto" else _PROVIDER_OF[config.provider],
    )
