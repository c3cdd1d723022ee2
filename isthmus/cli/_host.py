"""What a measured figure depends on besides the code: the machine, its load and the versions at work.

Reads files of the kernel and package metadata only; loads no library. What cannot be known is None, never a
guess.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Packages whose version can move a figure; those not installed are left out.
_PACKAGES = (
    "isthmus",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "grpcio",
    "protobuf",
    "msgspec",
    "lz4",
    "onnx",
    "torch",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine at the start of a measurement.

    Attributes:
        cpu: The model as the kernel names it.
        cores, usable_cores: Logical cores of the machine, and those this process may use.
        memory_bytes: Physical memory.
        governor: How the CPU chooses its frequency; None where the kernel does not say (virtual machines).
        load_average: Runnable processes over the last minute; above 0 something else was running.
        threads: Environment variables that limit the threads of numeric libraries.
    """

    cpu: str | None
    architecture: str
    cores: int | None
    usable_cores: int | None
    memory_bytes: int | None
    governor: str | None
    load_average: float | None
    system: str
    threads: dict[str, str]

    @property
    def is_busy(self) -> bool:
        """More than a quarter of the usable cores was at work before the measurement began."""
        return self.load_average is not None and self.load_average > 0.25 * (self.usable_cores or 1)


def read_host(root: Path = Path("/")) -> Host:
    """Return what the machine says of itself; `root` is where `proc` and `sys` are mounted."""
    affinity = getattr(os, "sched_getaffinity", None)
    try:
        load_average: float | None = round(os.getloadavg()[0], 2)
    except OSError:
        load_average = None
    return Host(
        cpu=_cpu_model(root),
        architecture=platform.machine(),
        cores=os.cpu_count(),
        usable_cores=len(affinity(0)) if affinity else os.cpu_count(),
        memory_bytes=_memory_bytes(root),
        governor=_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        load_average=load_average,
        system=f"{platform.system()} {platform.release()}",
        threads={name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
    )


def read_versions(checkout: Path | None) -> dict[str, str]:
    """Return the versions of Python and the packages at work, and the commit of `checkout` if it is one."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = _commit(checkout) if checkout else None
    return found | ({"commit": commit} if commit else {})


def _cpu_model(root: Path) -> str | None:
    # x86 names the model in cpuinfo; ARM boards name themselves in the device tree.
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    board = _text(root / "proc/device-tree/model")
    return board.rstrip("\x00") if board else None


def _memory_bytes(root: Path) -> int | None:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():
        return None
    try:
        head = _git(checkout, "rev-parse", "HEAD")
        changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("-modified" if changed else "")


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
