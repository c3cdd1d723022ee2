"""What was measured of a bundle, as a machine's profile: the file that simulator and partitioner read.

A network of the bundle was timed as a whole, by an install without onnx that cannot look into it: its profile
has one node, and no speeds by class of operators follow from it. `isthmus simulate BUNDLE --device FILE`
needs no more; a plan for another network needs `isthmus profile MODEL.onnx`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isthmus.device_agents.profiling.figures import WayFigures
from isthmus.runtime.bundle import EXIT, LOCAL, Bundle, head_name
from isthmus.runtime.energy import is_modelled
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.machines import MachineProfile, NetworkCosts, Power

_WHOLE_NODE = "the whole network"
# Stages in which the device computes; a measurement's joules beyond rest are theirs, in proportion to time.
_COMPUTING = ("head", "exit", "codec", "answer")


def bundle_machine(
    bundle: Bundle,
    figures: Sequence[WayFigures],
    *,
    name: str,
    processor: str,
    provider: str,
    backend: str,
    threads: int,
    idle_w: float | None,
    isthmus_version: str,
) -> MachineProfile:
    """Return the profile of this machine with the networks of `bundle` that `figures` measured.

    Args:
        bundle: The bundle.
        figures: As measured; of each network, those with most frames count.
        name: What to call this machine.
        processor: Its processor.
        provider: What ran the networks.
        backend: The framework with its version.
        threads: Threads of one inference.
        idle_w: Watts at rest, measured; None: not measured.
        isthmus_version: Who measured.
    """
    networks = {}
    for file, seconds, spread_s, frames in _timed(bundle, figures):
        joules = [one for one in (_network_j(bundle, found, file) for found in figures) if one is not None]
        networks[bundle.manifest.files[file]] = NetworkCosts(
            host=processor,
            backend=backend,
            clock="wall",
            threads=threads,
            rounds=frames,
            whole_s=seconds,
            whole_spread_s=spread_s,
            kernel_sum_s=seconds,
            node_s={_WHOLE_NODE: seconds},
            model=f"{bundle.manifest.name}/{file}",
            # What else the machine does meanwhile only adds.
            energy_j=min(joules, default=None),
        )
    return MachineProfile(
        name=name,
        origin=f"isthmus profile of bundle {bundle.manifest.name}, Isthmus {isthmus_version}",
        source="measured",
        processor=processor,
        provider=provider,
        backend=backend,
        threads=threads,
        power=_power(figures, idle_w),
        networks=networks,
    )


def add_networks(known: MachineProfile, fresh: MachineProfile, where: str) -> MachineProfile:
    """Return `known` with the networks of `fresh`; whatever else is known of the machine stays.

    Raises:
        ArtifactError: If they are of different machines or ways to run networks; `where` names the file.
    """
    for field in ("processor", "provider", "backend", "threads"):
        before, now = getattr(known, field), getattr(fresh, field)
        if before != now:
            raise ArtifactError(
                f"{where}: it is of {field} {before!r}, this is {now!r}; choose another file for this profile"
            )
    return msgspec.structs.replace(
        known, networks={**known.networks, **fresh.networks}, power=fresh.power or known.power
    )


def _timed(bundle: Bundle, figures: Sequence[WayFigures]) -> list[tuple[str, float, float, int]]:
    """Return file, median seconds, spread and frames of every network that was measured."""
    best: dict[str, WayFigures] = {}
    for one in figures:
        for file, stage in _networks(bundle, one):
            if stage in one.stages and (file not in best or one.frames > best[file].frames):
                best[file] = one
    found = []
    for file, one in best.items():
        stage = dict(_networks(bundle, one))[file]
        seconds = one.stages[stage]
        found.append((file, seconds.p50_s, seconds.p75_s - seconds.p25_s, one.frames))
    return found


def _network_j(bundle: Bundle, one: WayFigures, file: str) -> float | None:
    """Return the measured joules beyond rest of the network `file`; None where `one` does not tell."""
    stage = dict(_networks(bundle, one)).get(file)
    # Of a way over a link the radio's joules cannot be told from computing.
    if one.energy is None or is_modelled(one.energy.source) or one.way.kind == "server" or stage is None:
        return None
    means = {name: one.stages[name].mean_s for name in _COMPUTING if name in one.stages}
    above_j, total_s = one.energy.above_idle_per_frame_j, sum(means.values())
    if above_j is None or above_j <= 0 or stage not in means or total_s <= 0:
        return None
    return above_j * means[stage] / total_s


def _networks(bundle: Bundle, one: WayFigures) -> list[tuple[str, str]]:
    """Return the networks that a way runs on the device, each with the stage that is its time."""
    found = []
    if one.way.width is not None:
        found.append((head_name(one.way.width), "head"))
    if one.way.kind == "exit":
        found.append((EXIT, "answer"))
    if one.way.kind == "uncut":
        found.append((LOCAL, "answer"))
    return found


def _power(figures: Sequence[WayFigures], idle_w: float | None) -> Power | None:
    measured = [one.energy for one in figures if one.energy and not one.energy.source.startswith("model:")]
    if idle_w is None or not measured:
        return None
    # Of the ways, the one that keeps the device busiest shows what computing draws.
    watts = [
        one.energy.total_j / one.elapsed_s for one in figures if one.energy is not None and one.elapsed_s > 0
    ]
    return Power(
        idle_w=idle_w,
        compute_w=max(0.0, max(watts) - idle_w),
        transmit_w=None,
        source="measured",
        origin=f"meter {measured[0].source}, before and while profiling",
    )
