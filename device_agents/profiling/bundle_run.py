"""Profile a bundle: every way it answers, under every scenario asked for, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.device import Device
from isthmus.device_agents.profiling.clock_offset import ClockOffset, estimate_offset
from isthmus.device_agents.profiling.conditions import Moment, Watch
from isthmus.device_agents.profiling.device_target import way_target
from isthmus.device_agents.profiling.figures import WayFigures
from isthmus.device_agents.profiling.linked_target import linked_target
from isthmus.device_agents.profiling.measuring import Extent, Measured, measure, with_rate
from isthmus.device_agents.profiling.sample import Target
from isthmus.device_agents.profiling.scenarios import Load
from isthmus.device_agents.profiling.trace import Section
from isthmus.device_agents.profiling.ways import Way
from isthmus.device_agents.sources import open_source
from isthmus.device_agents.sources.source import NoNewFrame, SourceEnded
from isthmus.runtime.bundle import Bundle
from isthmus.runtime.energy import EnergyMeter, EnergySampler
from isthmus.runtime.errors import InputError
from isthmus.runtime.golden import golden_images

# What a meter says at rest is a mean over so long.
IDLE_S = 2.0
_FIRST_READING_S = 0.3
_MOST_IMAGES = 64
# A camera that is away gives nothing for a while; one that never does is no source.
_MOST_TICKS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A device that was profiled.

    Attributes:
        figures: One for every way and scenario.
        sections: The frames behind them, warm-up included.
        offset: The server's clock; None: there was no server, or it does not tell.
        moments: What the device was like all along.
        energy_source: The meter's; None: there was none.
        idle_w: Watts at rest, measured before; None: not known.
    """

    figures: tuple[WayFigures, ...]
    sections: tuple[Section, ...]
    offset: ClockOffset | None
    moments: tuple[Moment, ...]
    energy_source: str | None
    idle_w: float | None


# Is told what is measured now, and the share that is done.
Progress = Callable[[str, float], None]


async def profile_bundle(
    bundle: Bundle,
    ways: Sequence[Way],
    loads: Sequence[Load],
    *,
    config: AgentConfig,
    bank: WidthBank,
    images_nhwc: NDArray[np.uint8],
    extent: Extent,
    meter: EnergyMeter | None = None,
    progress: Progress = lambda what, share: None,
    note: Callable[[str], None] = lambda text: None,
) -> Profile:
    """Measure `ways` of `bundle` under `loads`.

    Args:
        bundle: The bundle.
        ways: What to measure; those of the kind `server` need the server of `config`.
        loads: Under what; for one of Server without a rate see `with_rate`.
        config: Server, security, codec and threads, as for an agent.
        bank: The bundle's warm sessions.
        images_nhwc: uint8 images of the bundle's input.
        extent: How long each measurement takes.
        meter: Counts the device's joules; is closed. None: there is none.
        progress: Is told how far it is.
        note: Takes one line whenever something changes.

    Raises:
        NetworkError, PeerError, AccessError: If the server cannot be used.
        InputError: If the codec does not fit.
    """
    device = Device(bundle, bank, codec=config.codec)

    @asynccontextmanager
    async def opened(way: Way) -> AsyncIterator[Target]:
        if way.kind == "server":
            async with linked_target(way, config, bundle, bank, images_nhwc, note=note) as linked:
                yield linked
        else:
            with way_target(way, device, images_nhwc) as alone:
                yield alone

    found: list[Measured] = []
    steps = [(way, load) for way in ways for load in loads]
    with watching(meter) as (watch, sampler):
        idle_w = await resting_power_w(sampler)
        for number, (way, load) in enumerate(steps):
            progress(f"{way.label}, {load.scenario}", number / len(steps))
            async with opened(way) as target:
                told = await with_rate(way, load, target, watch)
                found.append(
                    await measure(way, told, target, extent=extent, watch=watch, meter=sampler, idle_w=idle_w)
                )
        moments = tuple(watch.moments)
    return make_profile(found, moments, None if sampler is None else sampler.source, idle_w)


def make_profile(
    found: Sequence[Measured], moments: tuple[Moment, ...], energy_source: str | None, idle_w: float | None
) -> Profile:
    """Return what the measurements amount to."""
    frames = [sample.event for one in found for sample in one.samples]
    return Profile(
        figures=tuple(one.figures for one in found),
        sections=tuple(
            Section(
                name=f"{one.figures.way.label}, {one.figures.scenario}",
                frames=[sample.event for sample in one.samples],
            )
            for one in found
        ),
        offset=estimate_offset(frames),
        moments=moments,
        energy_source=energy_source,
        idle_w=idle_w,
    )


@contextmanager
def watching(meter: EnergyMeter | None) -> Iterator[tuple[Watch, EnergySampler | None]]:
    """Yield a watch and, with a meter, its sampler, both at work; the meter is closed at the end."""
    watch = Watch()
    sampler = None if meter is None else EnergySampler(meter)
    watch.start()
    try:
        if sampler is not None:
            sampler.start()
        try:
            yield watch, sampler
        finally:
            if sampler is not None:
                sampler.close()
    finally:
        watch.close()


async def resting_power_w(sampler: EnergySampler | None) -> float | None:
    """Return the watts while nothing runs here; None where they are not known."""
    if sampler is None:
        return None
    await asyncio.sleep(_FIRST_READING_S)
    before_j = sampler.energy_j
    await asyncio.sleep(IDLE_S)
    after_j = sampler.energy_j
    return None if before_j is None or after_j is None else (after_j - before_j) / IDLE_S


def profile_images(bundle: Bundle, source: str) -> NDArray[np.uint8]:
    """Return up to 64 images of `source`, uint8 [n, height, width, channels] of the bundle's input.

    Args:
        bundle: The bundle.
        source: As `isthmus agent --source` takes it; `golden`: the images that the bundle carries.

    Raises:
        InputError: If the source cannot be used.
        BundleError: If the bundle's images cannot be read.
    """
    if source == "golden":
        return golden_images(bundle)
    opened = open_source(source, bundle.manifest)
    images: list[NDArray[np.uint8]] = []
    try:
        for _ in range(_MOST_TICKS):
            try:
                images.append(opened.frame()[0])
            except NoNewFrame:
                continue
            except SourceEnded:
                break
            if len(images) == _MOST_IMAGES:
                break
    finally:
        opened.close()
    if not images:
        raise InputError(f"source {source!r} gave no image; give another --source")
    return np.stack(images)
