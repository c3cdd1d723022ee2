"""Profile a plain ONNX file on this device: whole, by ONNX Runtime alone, with random inputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from isthmus.device_agents.bank import ProviderChoice, providers_of, session_options
from isthmus.device_agents.profiling.bundle_run import (
    Profile,
    Progress,
    make_profile,
    resting_power_w,
    watching,
)
from isthmus.device_agents.profiling.device_target import DeviceTarget, Work
from isthmus.device_agents.profiling.measuring import Extent, Measured, measure, with_rate
from isthmus.device_agents.profiling.scenarios import Load
from isthmus.device_agents.profiling.ways import Way
from isthmus.runtime.energy import EnergyMeter
from isthmus.runtime.errors import InputError
from isthmus.runtime.session.timing import RecentMedian

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class PlainNetwork:
    """One ONNX file, ready to run on random inputs, a batch of one.

    Args:
        path: The file.
        threads: ONNX Runtime threads.
        provider: What to run on.
        sizes: Sizes of symbolic dimensions by name; others are 1.

    Attributes:
        provider: The execution provider that really runs it.
        time: What one run has taken lately.

    Raises:
        InputError: If it cannot be read or run, or an input is of a kind that has no random values.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        provider: ProviderChoice = "auto",
        sizes: dict[str, int] | None = None,
    ) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file; give a bundle's directory or an ONNX file")
        try:
            self._session = ort.InferenceSession(
                str(path), session_options(threads), providers=providers_of(provider)
            )
        except InputError:
            raise
        except Exception as error:  # ONNX Runtime's errors share no base class but Exception
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"{path}: ONNX Runtime cannot run it ({reason})") from None
        rng = np.random.default_rng(0)
        self._feed = {node.name: _random(node, sizes or {}, rng, path) for node in self._session.get_inputs()}
        self.provider: str = self._session.get_providers()[0]
        self.time = RecentMedian()
        try:
            self.compute(0)
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"{path}: it does not run on random inputs ({reason}); sizes of its dimensions are given by "
                "--dim NAME=N"
            ) from None

    def compute(self, frame: int) -> Work:
        """Run it once."""
        began_s = time.perf_counter()
        self._session.run(None, self._feed)
        seconds = time.perf_counter() - began_s
        self.time.add(seconds)
        return Work(outcome="local", answer_s=seconds)


async def profile_network_file(
    network: PlainNetwork,
    loads: Sequence[Load],
    *,
    extent: Extent,
    meter: EnergyMeter | None = None,
    progress: Progress = lambda what, share: None,
) -> Profile:
    """Measure a plain network under `loads`; arguments as those of `profile_bundle`."""
    way = Way(kind="network")
    found: list[Measured] = []
    with (
        watching(meter) as (watch, sampler),
        DeviceTarget(network.compute, lambda: network.time.seconds) as target,
    ):
        idle_w = await resting_power_w(sampler)
        for number, load in enumerate(loads):
            progress(load.scenario, number / len(loads))
            told = await with_rate(way, load, target, watch)
            found.append(
                await measure(way, told, target, extent=extent, watch=watch, meter=sampler, idle_w=idle_w)
            )
        moments = tuple(watch.moments)
    return make_profile(found, moments, None if sampler is None else sampler.source, idle_w)


def _random(node: Any, sizes: dict[str, int], rng: np.random.Generator, path: Path) -> NDArray[Any]:
    dtype = _DTYPES.get(node.type)
    if dtype is None:
        raise InputError(f"{path}: input {node.name!r} is {node.type}, of which there are no random values")
    shape = [size if isinstance(size, int) else sizes.get(str(size), 1) for size in node.shape]
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    # Indices of whatever they select: 0 and 1 are in every table that is one.
    high = 256 if dtype == np.uint8 else 2
    return rng.integers(0, high, shape).astype(dtype)
