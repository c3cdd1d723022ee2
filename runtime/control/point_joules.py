"""Joules of operating points on a device, from its profile.

A profile that measured a head's joules with a meter gives those; else they are modelled as watts of computing
times seconds. Both are beyond what the device draws at rest, and without the radio, which policies charge by
the byte.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.machines import MachineProfile


def with_joules(
    points: PointTable,
    profile: MachineProfile,
    *,
    head_s: Mapping[int, float],
    digests: Mapping[int, str],
    threads: int | None = None,
) -> PointTable:
    """Return `points` with the joules per frame of each on the device of `profile`.

    What the profile does not know is left as it was in the table.

    Args:
        points: The bundle's table.
        profile: The device's.
        head_s: Seconds per width index on that device.
        digests: SHA-256 of the head of every width index.
        threads: Threads a head computes with; None: as many as the profile's watts are for.
    """
    head_j = {
        index: _head_j(profile, digests.get(index, ""), seconds, threads) for index, seconds in head_s.items()
    }
    records = tuple(
        msgspec.structs.replace(record, energy_j=energy_j)
        if (energy_j := head_j.get(record.point.width_index)) is not None
        else record
        for record in points.records
    )
    return msgspec.structs.replace(points, records=records)


def _head_j(profile: MachineProfile, digest: str, seconds: float, threads: int | None) -> float | None:
    costs = profile.networks.get(digest)
    if costs is not None and costs.energy_j is not None:
        return costs.energy_j
    computing_w = None if profile.power is None else profile.power.computing_w(threads)
    return None if computing_w is None else computing_w * seconds
