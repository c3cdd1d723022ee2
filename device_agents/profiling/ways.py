"""The ways in which a bundle answers a frame, each measured by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from isthmus.runtime.bundle import EXIT, LOCAL, Bundle, OperatingPoint
from isthmus.runtime.errors import InputError

WayKind = Literal["server", "payload", "exit", "uncut", "network"]


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way.

    Attributes:
        kind: `server`: head, codec, link and tail; `payload`: head and codec, nothing is sent; `exit`: head
            and early exit; `uncut`: the bundle's whole network on the device; `network`: a plain network.
        width_index: The head; None: there is none.
        width: Its width.
        channels: How many are sent; None: nothing is.
    """

    kind: WayKind
    width_index: int | None = None
    width: float | None = None
    channels: int | None = None

    @property
    def point(self) -> OperatingPoint | None:
        """The operating point, where there is one."""
        if self.width_index is None or self.channels is None:
            return None
        return OperatingPoint(width_index=self.width_index, channels=self.channels)

    @property
    def label(self) -> str:
        """Short, for tables."""
        if self.width is None:
            return self.kind
        return f"{self.width:g} exit" if self.channels is None else f"{self.width:g}×{self.channels}"


def ways_of(bundle: Bundle, *, linked: bool, points: Sequence[OperatingPoint] = ()) -> tuple[Way, ...]:
    """Return the ways of `bundle`.

    Args:
        bundle: The bundle.
        linked: There is a server.
        points: Only these operating points, and nothing that the device answers alone; empty: everything.

    Raises:
        InputError: If the bundle has no such point.
    """
    manifest = bundle.manifest
    known = tuple(record.point for record in bundle.points.records)
    for point in points:
        if point not in known:
            listed = ", ".join(f"{p.width_index},{p.channels}" for p in known)
            raise InputError(
                f"point {point.width_index},{point.channels}: the bundle has no such point; it has {listed}"
            )
    kind: WayKind = "server" if linked else "payload"
    found = [
        Way(
            kind=kind,
            width_index=point.width_index,
            width=manifest.widths[point.width_index],
            channels=point.channels,
        )
        for point in points or known
    ]
    if points:
        return tuple(found)
    if bundle.has(EXIT):
        found += [Way(kind="exit", width_index=i, width=width) for i, width in enumerate(manifest.widths)]
    if bundle.has(LOCAL):
        found.append(Way(kind="uncut"))
    return tuple(found)
