"""`isthmus doctor`: is this machine fit, and does a bundle compute here what it should."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli._common import JsonFlag, out, print_json
from isthmus.cli._progress import progress
from isthmus.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from isthmus.runtime.golden import GoldenReport

# What each extra brings: the modules whose absence makes its commands end with exit code 6.
_EXTRAS = {
    "partition": ("onnx",),
    "server": ("grpc_reflection",),
    "train": ("torch", "onnx", "onnxscript", "sklearn", "filelock"),
    "plot": ("matplotlib",),
    "camera": ("cv2",),
}


def command(
    bundle: Annotated[Path | None, typer.Argument(help="A bundle to verify on this machine.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check this machine and, if given, a bundle: digests, golden payloads bit for bit, golden outputs.

    Exit code 0 if all is well, 4 if the bundle is not what it should be or computes otherwise here.
    """
    result = examine()
    failure: ArtifactError | None = None
    if bundle is not None:
        try:
            with progress(f"verifying {bundle}"):
                result["bundle"] = _examine_bundle(bundle)
        except ArtifactError as error:
            failure = error
            result["bundle"] = {"path": str(bundle), "ok": False, "error": " ".join(str(error).split())}
    if as_json:
        print_json(result)
    else:
        _print(result)
    if failure is not None:
        raise failure


def examine() -> dict[str, Any]:
    """Return what there is on this machine."""
    import onnxruntime

    from isthmus.cli._host import read_host, read_versions
    from isthmus.runtime.codecs import coder_backend

    return {
        "host": asdict(read_host()),
        "versions": read_versions(None),
        "providers": list(onnxruntime.get_available_providers()),
        "rans": coder_backend(),
        "extras": {extra: [name for name in names if _missing(name)] for extra, names in _EXTRAS.items()},
    }


def _missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def _examine_bundle(path: Path) -> dict[str, Any]:
    from isthmus.runtime.bundle import load_bundle
    from isthmus.runtime.golden import verify

    bundle = load_bundle(path)
    report: GoldenReport = verify(bundle)
    return {
        "path": str(path),
        "ok": True,
        "name": bundle.manifest.name,
        "digest": bundle.digest,
        "files": len(bundle.manifest.files),
        "golden": asdict(report),
    }


def _print(result: dict[str, Any]) -> None:
    host = result["host"]
    cores = f"{host['usable_cores']} of {host['cores']} cores"
    lines = [
        ("host", f"{host['cpu'] or host['architecture']}, {cores}, {host['system']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in result["versions"].items())),
        ("providers", ", ".join(result["providers"])),
        ("rans coder", _CODERS[result["rans"]]),
    ]
    for extra, missing in result["extras"].items():
        text = (
            f"not installed ({', '.join(missing)}): pip install 'isthmus[{extra}]'"
            if missing
            else "installed"
        )
        lines.append((f"extra {extra}", text))
    found = result.get("bundle")
    if found and found["ok"]:
        golden = found["golden"]
        lines.append(("bundle", f"{found['path']}: '{found['name']}', {found['files']} files, digests right"))
        lines.append(
            (
                "golden",
                f"{golden['payloads']} payloads bit for bit; {golden['symbols_off']:.3%} of symbols one "
                f"level off; outputs within {golden['output_error']:.1g} of their range",
            )
        )
    for name, text in lines:
        out.print(f"{name:<15} {text}", soft_wrap=True, markup=False)


_CODERS = {
    "c": "C extension",
    "numpy": "numpy, the same bytes, slower: install with a C compiler (or unset ISTHMUS_RANS) for the C one",
}
