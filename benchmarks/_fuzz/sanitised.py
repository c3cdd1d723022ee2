"""The C coder built so that it notices what it must not do: reads beyond its buffers, overflows, shifts."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).resolve().parents[2] / "runtime" / "codecs" / "_rans.c"
_FLAGS = (
    *("-shared", "-fPIC", "-O1", "-g", "-std=c11", "-DPy_LIMITED_API=0x030A0000"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SanitisedCoder:
    """A built coder.

    Attributes:
        file: The extension.
        environment: What a Python needs to load it.
        compiler: What built it.
    """

    file: Path
    environment: dict[str, str]
    compiler: str


def build_coder(folder: Path) -> SanitisedCoder | None:
    """Build it into `folder`; None where no GCC with its sanitisers is installed."""
    gcc = shutil.which("gcc")
    if gcc is None:
        return None
    library = Path(_said(gcc, "-print-file-name=libasan.so"))
    file = folder / "_rans.abi3.so"
    command = [gcc, *_FLAGS, f"-I{sysconfig.get_paths()['include']}", str(_SOURCE), "-o", str(file)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0 or not library.is_absolute():
        return None
    return SanitisedCoder(
        file=file,
        environment={
            "LD_PRELOAD": str(library.resolve()),
            # Python keeps what it needs to its end. Freed memory is held back for a while to catch late uses;
            # a little of it, or memory would seem to grow.
            "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=8",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            # Each bytes object in a block of its own, so that the bytes after it are no other object's.
            "PYTHONMALLOC": "malloc",
        },
        compiler=_said(gcc, "--version").splitlines()[0],
    )


def _said(program: str, argument: str) -> str:
    return subprocess.run([program, argument], capture_output=True, text=True, check=True).stdout.strip()
