"""NVML: joules of one NVIDIA GPU with its memory, not of the machine around it.

Since Volta a GPU counts its own millijoules; older ones tell milliwatts, which are integrated. A Jetson's GPU
tells neither: see `jetson`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from isthmus.runtime.energy.counting import Clock, Counter, CounterMeter, PowerMeter
from isthmus.runtime.errors import InputError, MissingExtraError

SOURCE = "nvml"
_REMEDY = "see whether 'nvidia-smi' shows the GPU"


def open_nvml(clock: Clock, *, index: int = 0) -> CounterMeter | PowerMeter:
    """Return a meter of the GPU `index`.

    Raises:
        MissingExtraError: If nvidia-ml-py is not installed.
        InputError: If there is no driver or no such GPU, or it tells neither joules nor watts.
    """
    try:
        import pynvml
    except ImportError:
        raise MissingExtraError("reading a GPU's energy", "energy") from None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        raise InputError(f"{SOURCE}: GPU {index}: {error}; {_REMEDY}") from None
    read_mj = functools.partial(_asked, pynvml, pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    read_mw = functools.partial(_asked, pynvml, pynvml.nvmlDeviceGetPowerUsage, handle)
    name = SOURCE if index == 0 else f"{SOURCE}:{index}"
    try:
        return CounterMeter(name, [Counter(f"GPU {index}", lambda: read_mj() / 1e3)], clock=clock)
    except InputError:
        return PowerMeter(name, lambda: read_mw() / 1e3, clock=clock)


def _asked(pynvml: Any, question: Callable[[Any], int], handle: Any) -> int:
    try:
        return question(handle)
    except pynvml.NVMLError as error:
        raise InputError(f"{SOURCE}: {error}; {_REMEDY}") from None
