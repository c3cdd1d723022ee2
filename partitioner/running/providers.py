"""What ONNX Runtime runs a network on: the processor, or an accelerator that this machine has."""

from __future__ import annotations

import onnxruntime

from isthmus.runtime.errors import InputError

CPU = ("CPUExecutionProvider",)
TENSORRT = "TensorrtExecutionProvider"
# What an accelerator cannot run falls to the next in the list, as ONNX Runtime does it.
_PROVIDERS = {
    "cpu": CPU,
    "cuda": ("CUDAExecutionProvider", *CPU),
    "tensorrt": (TENSORRT, "CUDAExecutionProvider", *CPU),
}


def choose_provider(wanted: str) -> tuple[str, ...]:
    """Return ONNX Runtime's execution providers for `wanted`, the one that counts first.

    Args:
        wanted: `cpu`, `cuda`, `tensorrt`, or `auto`: CUDA where this ONNX Runtime has it, else the processor.

    Raises:
        InputError: If there is no such provider here.
    """
    present = onnxruntime.get_available_providers()
    if wanted == "auto":
        wanted = "cuda" if "CUDAExecutionProvider" in present else "cpu"
    providers = _PROVIDERS.get(wanted)
    if providers is None:
        raise InputError(f"provider {wanted!r} is none of auto, {', '.join(_PROVIDERS)}")
    if providers[0] not in present:
        raise InputError(
            f"provider {wanted!r}: this ONNX Runtime has {', '.join(present)}; install onnxruntime-gpu, "
            "or choose cpu"
        )
    return tuple(name for name in providers if name in present)


def backend_of(providers: tuple[str, ...]) -> str:
    """Return what runs the graphs here, with its version."""
    return f"ONNX Runtime {onnxruntime.__version__}, {providers[0]}"
