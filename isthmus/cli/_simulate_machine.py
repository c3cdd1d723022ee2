"""Compute times and joules of a bundle's networks on a machine that is not at hand, from its profile."""

from __future__ import annotations

from statistics import median
from typing import Any

from msgspec import structs

from isthmus.cli._common import console
from isthmus.cli._simulate_worlds import Subject
from isthmus.runtime.bundle import EXIT, LOCAL, Bundle, head_name
from isthmus.runtime.control import with_joules
from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import MachineProfile, load_machine
from isthmus.runtime.simulation import Constant, DeviceEnergy

# Seconds of encoding where the points were measured.
_ENCODE_S = 0.0002
_MOST = 0.5


def machine_facts(subject: Subject, machine: str) -> dict[str, Any]:
    """Return what a `DeviceWorld` needs of `machine`: times of networks, watts, joules of operating points.

    A network that the profile has measured takes that time; any other is estimated from the profile's speeds.
    Encoding, a loop without operators, is taken to be slower by the factor that the heads are without the
    machine's overhead per operator. Joules are modelled, but for heads whose joules the profile has measured.

    Raises:
        InputError: If there is no bundle: a bare table does not say what its networks compute.
        ArtifactError: If the profile cannot be read, or cannot say what a network costs.
    """
    bundle = subject.bundle
    if bundle is None:
        raise InputError(f"--device {machine}: {subject.name} is a bare table; give the bundle itself")
    profile = load_machine(machine)
    head_s = {
        index: _seconds(bundle, head_name(width), profile)
        for index, width in enumerate(bundle.manifest.widths)
    }
    lean = _without_overhead(profile)
    work_s = {
        index: _seconds(bundle, head_name(width), lean) for index, width in enumerate(bundle.manifest.widths)
    }
    _tell_of_overhead(profile, share=1.0 - sum(work_s.values()) / sum(head_s.values()))
    table_s = {record.point.width_index: record.head_s for record in subject.points.records}
    ratios = [work_s[index] / table_s[index] for index in table_s if table_s[index] > 0]
    found: dict[str, Any] = {
        "head_s": {index: Constant(seconds) for index, seconds in head_s.items()},
        "encode_s": Constant(_ENCODE_S * (median(ratios) if ratios else 1.0)),
    }
    energy = DeviceEnergy.of(profile)
    # Joules of computing alone would stand in the results as if they were the device's.
    if energy is not None:
        files = {index: head_name(width) for index, width in enumerate(bundle.manifest.widths)}
        digests = {index: bundle.manifest.files[file] for index, file in files.items()}
        found["energy"] = energy
        found["points"] = with_joules(
            subject.points, profile, head_s=head_s, digests=digests, threads=profile.threads
        )
    if bundle.has(EXIT):
        found["exit_s"] = Constant(_seconds(bundle, EXIT, profile))
    if bundle.has(LOCAL):
        found["local_s"] = Constant(_seconds(bundle, LOCAL, profile))
    return found


def _without_overhead(profile: MachineProfile) -> MachineProfile:
    operators = tuple(structs.replace(speed, overhead_s=0.0) for speed in profile.operators)
    return structs.replace(profile, operators=operators)


def _tell_of_overhead(profile: MachineProfile, *, share: float) -> None:
    """Say so where most of what is simulated is a framework's overhead, which another does not have."""
    if share > _MOST:
        framework = profile.backend.split(" (")[0]
        console.print(
            f"{profile.name}: {share:.0%} of the heads' time is what {framework} takes per layer; measure "
            "them there where you can (isthmus partition profile)",
            markup=False,
            soft_wrap=True,
        )


def _seconds(bundle: Bundle, file: str, profile: MachineProfile) -> float:
    known = profile.networks.get(bundle.manifest.files[file])
    if known is not None:
        return known.whole_s
    from isthmus.partitioner.costs.lookup import node_costs
    from isthmus.partitioner.network.model import load_network

    return node_costs(load_network(bundle.root / file), profile).whole_s
