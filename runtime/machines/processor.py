"""What this machine's processor calls itself: by this name profiles of the same machine know each other."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def processor_name() -> str:
    """Return what this machine's processor is, and how many of them it may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                model = value.strip()
                break
    return f"{model}, {os.cpu_count()} cores, {platform.machine()}"
