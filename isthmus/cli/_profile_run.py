"""What `isthmus profile` measures, from what the command line says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli._common import console

if TYPE_CHECKING:
    from isthmus.cli._progress import Show
    from isthmus.device_agents.bank import ProviderChoice
    from isthmus.device_agents.profiling.bundle_run import Profile
    from isthmus.device_agents.profiling.measuring import Extent
    from isthmus.device_agents.profiling.scenarios import Load
    from isthmus.runtime.bundle import OperatingPoint
    from isthmus.runtime.energy import EnergyMeter


def loads_of(names: list[str], *, streams: int, rate: float | None, seed: int) -> list[Load]:
    """Return the scenarios of these names, each once.

    Raises:
        InputError: If there is no such scenario.
    """
    from isthmus.device_agents.profiling.scenarios import SCENARIOS, Load
    from isthmus.runtime.errors import InputError

    by_name = {known.lower(): known for known in SCENARIOS}
    chosen = list(SCENARIOS) if "all" in names else []
    for text in names:
        known = by_name.get(text.lower())
        if known is None and text != "all":
            raise InputError(f"scenario {text!r}: give {', '.join(SCENARIOS)} or all")
        if known is not None and known not in chosen:
            chosen.append(known)
    return [Load(scenario=one, streams=streams, rate_per_s=rate or 0.0, seed=seed) for one in chosen]


def run_bundle(
    path: Path,
    server: str | None,
    point: list[str],
    source: str,
    settings: dict[str, Any],
    loads: list[Load],
    extent: Extent,
    meter: EnergyMeter | None,
    show: Show,
) -> tuple[dict[str, Any], Profile]:
    """Profile the bundle at `path`; return what it is about, and the profile.

    Args:
        path: The bundle's directory.
        server: HOST:PORT; None: the device alone.
        point: The operating points, as text; empty: everything.
        source: Images.
        settings: Of the agent: threads, provider, codec, security.
        loads: The scenarios.
        extent: How long each measurement takes.
        meter: Joules, or None.
        show: Progress.

    Raises:
        IsthmusError: See `profile_bundle`.
    """
    from isthmus.device_agents.bank import WidthBank
    from isthmus.device_agents.clock import run_exactly
    from isthmus.device_agents.config import AgentConfig
    from isthmus.device_agents.profiling.bundle_run import profile_bundle, profile_images
    from isthmus.device_agents.profiling.ways import ways_of
    from isthmus.runtime.bundle import load_bundle

    bundle = load_bundle(path)
    linked: dict[str, Any] = {} if server is None else {"server": server}
    config = AgentConfig(source=source, **settings, **linked)
    ways = ways_of(bundle, linked=server is not None, points=[_point(text) for text in point])
    images = profile_images(bundle, source)
    bank = WidthBank(bundle, threads=config.threads, provider=config.provider)
    for text in bank.notes:
        console.print(text, markup=False)
    profile = run_exactly(
        profile_bundle(
            bundle,
            ways,
            loads,
            config=config,
            bank=bank,
            images_nhwc=images,
            extent=extent,
            meter=meter,
            progress=lambda what, share: show(what, share),
        )
    )
    about = {
        "bundle": str(path),
        "digest": bundle.digest,
        "server": server,
        "source": source,
        "images": len(images),
        "codec": config.codec or bundle.manifest.codecs[0],
        "threads": config.threads,
        "provider": bank.provider,
    }
    return about, profile


def run_network(
    path: Path,
    dim: list[str],
    threads: int,
    provider: ProviderChoice,
    loads: list[Load],
    extent: Extent,
    meter: EnergyMeter | None,
    show: Show,
) -> tuple[dict[str, Any], Profile]:
    """Profile the plain network at `path`; arguments as those of `run_bundle`.

    Raises:
        InputError: If it cannot be run.
    """
    from isthmus.cli._partition_flags import sizes
    from isthmus.device_agents.clock import run_exactly
    from isthmus.device_agents.profiling.network_run import PlainNetwork, profile_network_file

    network = PlainNetwork(path, threads=threads, provider=provider, sizes=sizes(dim))
    profile = run_exactly(
        profile_network_file(
            network,
            loads,
            extent=extent,
            meter=meter,
            progress=lambda what, share: show(what, share),
        )
    )
    return {"network": str(path), "threads": threads, "provider": network.provider}, profile


def _point(text: str) -> OperatingPoint:
    from isthmus.runtime.bundle import OperatingPoint
    from isthmus.runtime.errors import InputError

    width, comma, channels = text.partition(",")
    if not comma or not width.isdecimal() or not channels.isdecimal():
        raise InputError(f"point {text!r}: give WIDTHINDEX,CHANNELS, e.g. 0,8")
    return OperatingPoint(width_index=int(width), channels=int(channels))
