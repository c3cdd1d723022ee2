"""What follows from a candidate's stage times: energy, period, the share on time, quantiles over a trace."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from isthmus.partitioner.energy import EnergyModel
from isthmus.partitioner.links import Crossing
from isthmus.partitioner.plan import Candidate, Figures, StageTimes

QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureMaker:
    """Completes stage times.

    Attributes:
        crossing: The link.
        energy: What the device draws.
        deadline_s: Seconds that a frame may take, or None.
    """

    crossing: Crossing
    energy: EnergyModel
    deadline_s: float | None

    def over_link(self, times: StageTimes, nbytes: int) -> StageTimes:
        """Return `times` with the mean time of `nbytes` over the link."""
        return msgspec.structs.replace(times, link_s=self.crossing.mean_s(nbytes))

    def figures(self, times: StageTimes, nbytes: int, *, local: bool) -> Figures:
        """Return what follows from `times`; of a `local` frame nothing crosses."""
        rtt_s = self.crossing.facts.rtt_s
        alone_s = times.device_s + times.server_s
        totals_s = alone_s + (np.zeros(1) if local else self.crossing.samples_s(nbytes))
        varies = not local and self.crossing.facts.trace is not None and times.link_s is not None
        period_s = None
        if times.link_s is not None:
            transfer_s = 0.0 if local else max(0.0, times.link_s - rtt_s)
            period_s = max(times.device_s, transfer_s, times.server_s)
        return Figures(
            energy_j=self.energy.frame_j(times, rtt_s=rtt_s, nbytes=nbytes),
            period_s=period_s,
            on_time=None if self.deadline_s is None else float((totals_s <= self.deadline_s).mean()),
            quantiles_s=tuple(
                (share, float(np.quantile(totals_s, share))) for share in (QUANTILES if varies else ())
            ),
        )

    def completed(self, item: Candidate, times: StageTimes) -> Candidate:
        """Return `item` measured as `times`, with the figures that follow; its link time is calculated."""
        local = item.kind == "local"
        full = times if local else self.over_link(times, item.payload_bytes)
        return msgspec.structs.replace(
            item, measured=full, figures=self.figures(full, item.payload_bytes, local=local)
        )
