"""Find the first tensor that is not finite, to name it in the error that stops a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def first_gradient(named: Iterable[tuple[str, nn.Parameter]]) -> str | None:
    """Return the name of the first parameter whose gradient holds a NaN or infinity."""
    return next((name for name, value in named if value.grad is not None and not _finite(value.grad)), None)


def first_tensor(network: nn.Module, forward: Callable[[], object]) -> str | None:
    """Return which parameter, buffer or activation is the first that is not finite, or None.

    Args:
        network: Its parameters and buffers are looked at first, then what its modules return.
        forward: Runs the pass that went wrong once more; without gradients.
    """
    for kind, named in (("parameter", network.named_parameters()), ("buffer", network.named_buffers())):
        for name, value in named:
            if not _finite(value):
                return f"{kind} '{name}'"
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, result: object) -> None:
            if not found and isinstance(result, Tensor) and not _finite(result):
                found.append(f"activation of '{name}'")

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())
