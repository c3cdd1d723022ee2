"""What a bug report needs to know: versions, and which implementations are at work.

Versions come from package metadata: nothing heavy is imported to ask for them. ONNX Runtime alone is loaded,
because only it knows its providers.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import isthmus

# Those of the edge core always, those of the extras where they are.
_CORE = ("numpy", "grpcio", "protobuf", "msgspec", "lz4")
_EXTRAS = ("onnx", "torch", "onnxscript", "prometheus-client", "matplotlib", "numba")
_MISSING = "not installed"


def version_lines() -> list[str]:
    """Return one line a component; the first is `isthmus VERSION` alone."""
    rows = [
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("platform", _platform()),
        ("onnxruntime", _onnxruntime()),
        *((name, _installed(name) or _MISSING) for name in _CORE),
        ("entropy coder", _coder()),
        *((name, found) for name in _EXTRAS if (found := _installed(name)) is not None),
    ]
    return [f"isthmus {isthmus.__version__}", *(f"{name:<17} {text}" for name, text in rows)]


def _platform() -> str:
    library, its_version = platform.libc_ver()
    libc = f", {library} {its_version}" if library else ""
    return f"{platform.system()} {platform.release()} {platform.machine()}{libc}"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _onnxruntime() -> str:
    # The package for GPUs has another name and the same module.
    package = next((name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)), None)
    try:
        import onnxruntime
    except ImportError as error:
        return f"{_installed(package) if package else _MISSING}; cannot be loaded: {error}"
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return f"{onnxruntime.__version__} ({', '.join(providers)})"


def _coder() -> str:
    from isthmus.runtime.codecs import coder_backend

    return {"c": "C", "numpy": "numpy"}[coder_backend()]
