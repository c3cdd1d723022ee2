"""Rebuild the finalists as real halves, and give their times to the candidates.

Decides how measured halves become a candidate's times: scaled where a machine is this one at another speed; a
machine that is known by its profile keeps predicted times, because nothing here can measure it; of an assumed
bottleneck, encoder and decoder stay fractions of the head. Every finalist is proven against the whole, on
whatever machines.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.partitioner.bottlenecks import Assumptions
from isthmus.partitioner.costs.halves import MeasuredCut, measure_cuts
from isthmus.partitioner.figures import FigureMaker
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.plan import Candidate, StageTimes
from isthmus.partitioner.running.execution import Feed
from isthmus.partitioner.running.runner import Runner
from isthmus.partitioner.sides import Side

# Where neither machine is this one, halves run only to be compared with the whole.
_NO_TIMING_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Finals:
    """Measures finalists of one network.

    Attributes:
        network: The network.
        device, server: The machines.
        assumptions: Of bottlenecks that nobody has trained.
        figures: Completes times.
    """

    network: Network
    device: Side
    server: Side
    assumptions: Assumptions
    figures: FigureMaker

    def measure(
        self,
        candidates: Sequence[Candidate],
        chosen: Sequence[int],
        *,
        real: Sequence[Feed] = (),
        budget_s: float,
        folder: Path | None = None,
    ) -> list[Candidate]:
        """Return `candidates` with measured times for the endpoints and for all at the cuts of the `chosen`.

        Args:
            candidates: All candidates.
            chosen: Indices of those whose cuts are rebuilt.
            real: Real inputs for the parity check.
            budget_s: Seconds to spend on timing.
            folder: Where to write the halves, or None.

        Raises:
            GateError: If halves do not answer like the whole.
            InputError: If the folder cannot be written.
        """
        heads = list(dict.fromkeys(self._head(candidates[index]) for index in chosen))
        device, server = self._runners()
        here = self.device.runner is not None or self.server.runner is not None
        found = measure_cuts(
            self.network,
            heads,
            device=device,
            server=server,
            real=real,
            budget_s=budget_s if here else _NO_TIMING_S,
            folder=folder,
        )
        cuts = dict(zip(heads, found.cuts, strict=True))
        ratio = found.server.median_s / found.device.median_s
        measured = []
        for item in candidates:
            if item.kind == "local" and self.device.runner is not None:
                times = StageTimes(
                    device_s=self.device.here_s(found.device.median_s), link_s=0.0, server_s=0.0
                )
                measured.append(self._with(item, times, found.device.spread_s))
            elif item.kind == "offload" and self.server.runner is not None:
                decode_s = item.predicted.server_s - self.server.whole_s
                server_s = self.server.here_s(found.server.median_s) + max(0.0, decode_s)
                times = msgspec.structs.replace(item.predicted, server_s=server_s)
                measured.append(self._with(item, times, found.server.spread_s))
            elif item.cut is not None and item.learned is None and (head := self._head(item)) in cuts:
                measured.append(self._with_halves(item, head, cuts[head], ratio, here=here))
            else:
                measured.append(item)
        return measured

    def _runners(self) -> tuple[Runner, Runner]:
        """Return how head and tail run here; for another machine as its opposite does."""
        device, server = self.device.runner, self.server.runner
        either = device or server or Runner(threads=1)
        return device or either, server or either

    def _head(self, item: Candidate) -> frozenset[str]:
        """Return the nodes before the cut of `item`: at a single tensor they come first in the graph."""
        first = (node.key for node in self.network.graph.nodes[: item.head_nodes])
        return frozenset(item.nodes or first)

    def _with(self, item: Candidate, times: StageTimes, spread_s: float) -> Candidate:
        return msgspec.structs.replace(self.figures.completed(item, times), spread_s=spread_s)

    def _with_halves(
        self, item: Candidate, head: Collection[str], cut: MeasuredCut, ratio: float, *, here: bool
    ) -> Candidate:
        """Return `item` with its halves; `ratio` is the whole's time in the server's way to the device's."""
        tail = cut.tail_memory
        proven = msgspec.structs.replace(
            item,
            max_rel_diff=cut.max_rel_diff,
            server_memory_bytes=None if item.assumed else tail.weight_bytes + tail.activation_bytes,
        )
        if not here:
            return proven
        outside = [node.key for node in self.network.graph.nodes if node.key not in head]
        head_s, tail_s = self.device.head_s(head), self.server.tail_s(outside)
        # Encoding and decoding an input that crosses too: no half does it.
        encode_s, decode_s = item.predicted.device_s - head_s, item.predicted.server_s - tail_s
        head_server_s = self.server.head_s(head)
        if self.device.runner is not None:
            head_s = self.device.here_s(cut.head.median_s)
        if self.server.runner is not None:
            tail_s = self.server.here_s(cut.tail.median_s)
            head_server_s = self.server.here_s(cut.head.median_s * ratio)
        if item.kind == "split":
            times = StageTimes(
                device_s=head_s + max(0.0, encode_s), link_s=None, server_s=tail_s + max(0.0, decode_s)
            )
        else:
            times = self.assumptions.times(head_device_s=head_s, head_server_s=head_server_s, tail_s=tail_s)
        return self._with(proven, times, cut.head.spread_s + cut.tail.spread_s)
