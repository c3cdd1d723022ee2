"""Compute times and joules of a bundle's networks on a machine that is not at hand, from its profile."""

from __future__ import annotations

from typing import Any

from isthmus.cli._simulate_worlds import Subject
from isthmus.runtime.bundle import EXIT, LOCAL, Bundle, head_name
from isthmus.runtime.control import with_joules
from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import MachineProfile, load_machine
from isthmus.runtime.simulation import Constant, DeviceEnergy


def machine_facts(subject: Subject, machine: str) -> dict[str, Any]:
    """Return what a `DeviceWorld` needs of `machine`: times of networks, watts, joules of operating points.

    A network that the profile has measured takes that time; any other is estimated from the profile's speeds.
    Encoding is taken to be slower by the same factor as the heads. Joules are modelled, but for heads whose
    joules the profile has measured.

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
    table_s = {record.point.width_index: record.head_s for record in subject.points.records}
    ratios = sorted(head_s[index] / table_s[index] for index in table_s if table_s[index] > 0)
    slower = ratios[len(ratios) // 2] if ratios else 1.0
    found: dict[str, Any] = {
        "head_s": {index: Constant(seconds) for index, seconds in head_s.items()},
        "encode_s": Constant(0.0002 * slower),
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


def _seconds(bundle: Bundle, file: str, profile: MachineProfile) -> float:
    known = profile.networks.get(bundle.manifest.files[file])
    if known is not None:
        return known.whole_s
    from isthmus.partitioner.costs.lookup import node_costs
    from isthmus.partitioner.network.model import load_network

    return node_costs(load_network(bundle.root / file), profile).whole_s
