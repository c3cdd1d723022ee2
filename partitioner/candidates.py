"""Every way to run the network as a candidate of the plan, with predicted times.

Endpoints and single-tensor cuts are all listed, with the reason where one may not be used; of cuts at several
tensors those that the search finds best. The search sums node times; here what a cut adds beyond its nodes
comes on top, and over a trace the exact mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from isthmus.partitioner.bottlenecks import ASSUMED_ENCODING, Assumptions, is_feature_map, share_before
from isthmus.partitioner.energy import EnergyModel
from isthmus.partitioner.figures import FigureMaker
from isthmus.partitioner.learned import LearnedWay
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.plan import Candidate, StageTimes
from isthmus.partitioner.search import Bottleneck, Found, RawInput, SearchProblem, Split, refusals
from isthmus.partitioner.search.growth import State
from isthmus.partitioner.search.scoring import Scorer
from isthmus.partitioner.sides import Side

# Cuts at several tensors beyond these are near copies of each other.
_MOST_EXTRA = 40
_STAYS = "the input may not leave the device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lister:
    """Makes the candidates of one network.

    Attributes:
        network: The network.
        device, server: The machines.
        problem: What the search is asked, without deadline and bottlenecks: these refuse nothing here.
        figures: Completes times.
        energy: What the device draws.
        assumptions: Of bottlenecks that nobody has trained.
        learned: A bundle's operating points at its tensor.
        modules: Torch module path by tensor.
        accuracy: Of the whole network, or None.
    """

    network: Network
    device: Side
    server: Side
    problem: SearchProblem
    figures: FigureMaker
    energy: EnergyModel
    assumptions: Assumptions
    learned: Mapping[str, Sequence[LearnedWay]]
    modules: Mapping[str, str]
    accuracy: float | None

    def listed(self) -> tuple[list[Candidate], list[Bottleneck]]:
        """Return endpoints and single-tensor cuts, and the bottlenecks among them for the search."""
        scorer = Scorer(self.problem)
        found = [self._local(scorer), *self._offloads(scorer)]
        bottlenecks: list[Bottleneck] = []
        for split, state in self._singles(scorer):
            found.append(self._candidate(split))
            for bottleneck, way in self._bottlenecks(split):
                learned = scorer.split(scorer.with_bottleneck(bottleneck, state))
                item = self._candidate(learned, way, unfit=self._unfit(bottleneck, split, way))
                found.append(item)
                if item.refused is None:
                    bottlenecks.append(bottleneck)
        return found, bottlenecks

    def beyond(self, founds: Iterable[Found], known: Sequence[Candidate]) -> list[Candidate]:
        """Return the cuts that a search found and `known` lacks, the best of each objective first."""
        seen = {tuple(tensor.name for tensor in item.frontier) for item in known if item.kind == "split"}
        extra: list[Candidate] = []
        for found in founds:
            best = [item.split for item in found.best.values() if item.split is not None]
            for split in (*best, *found.pareto):
                if split.kind == "split" and split.frontier not in seen and len(extra) < _MOST_EXTRA:
                    seen.add(split.frontier)
                    extra.append(self._candidate(split))
        return extra

    def _local(self, scorer: Scorer) -> Candidate:
        (point,) = scorer.candidates(scorer.state_of(scorer.full))
        return self._candidate(scorer.split(point))

    def _offloads(self, scorer: Scorer) -> Iterator[Candidate]:
        """Yield everything on the server, once for every way to send the inputs, also the worse ones."""
        graph = self.network.graph
        plain = [scorer.split(point) for point in scorer.candidates(scorer.empty)]
        broken = refusals(self.problem, plain[0]) if plain else (_STAYS,)
        for ways in itertools.product(*(self.problem.raw[name] for name in graph.inputs)):
            times = StageTimes(
                device_s=sum(way.encode_s for way in ways),
                link_s=None,
                server_s=self.server.whole_s + sum(way.decode_s for way in ways),
            )
            nbytes = sum(way.nbytes for way in ways)
            times = self.figures.over_link(times, nbytes)
            yield Candidate(
                kind="offload",
                frontier=tuple(graph.tensors[name] for name in graph.inputs),
                encoding="+".join(dict.fromkeys(way.encoding for way in ways)),
                payload_bytes=nbytes,
                head_share=0.0,
                accuracy=self.accuracy,
                memory_bytes=sum(graph.tensors[name].nbytes or 0 for name in graph.inputs),
                predicted=times,
                figures=self.figures.figures(times, nbytes, local=False),
                refused="; ".join(broken) or None,
            )

    def _singles(self, scorer: Scorer) -> Iterator[tuple[Split, State]]:
        """Yield the splits at single tensors in the order of execution: their heads are prefixes of it."""
        ends = {cut.head_nodes for cut in self.network.graph.interior_cuts()}
        state = scorer.empty
        for index in range(len(self.network.graph.nodes)):
            state = scorer.grown(state, index)
            if index + 1 in ends:
                for point in scorer.candidates(state):
                    yield scorer.split(point), state

    def _bottlenecks(self, split: Split) -> Iterator[tuple[Bottleneck, LearnedWay | None]]:
        (name,) = split.frontier
        behind = [node.key for node in self.network.graph.nodes[split.device_mask.bit_length() :]]
        on_server = self.server.nodes_s()
        for way in self.learned.get(name, ()):
            yield way.for_search(name, sum(on_server[key] for key in behind), self.energy), way
        if is_feature_map(self.network.graph.tensors[name]):
            yield self.assumptions.for_search(split, self.energy), None

    def _unfit(self, bottleneck: Bottleneck, split: Split, way: LearnedWay | None) -> str | None:
        if way is not None:
            return None
        tensor = self.network.graph.tensors[split.frontier[0]]
        share = share_before(self.device.costs.node_s, self._head(split))
        return self.assumptions.unfit(tensor, share, bottleneck.encoder_s)

    def _head(self, split: Split) -> list[str]:
        return [self.network.graph.nodes[index].key for index in split.device_nodes]

    def _candidate(
        self, split: Split, way: LearnedWay | None = None, *, unfit: str | None = None
    ) -> Candidate:
        graph, head = self.network.graph, self._head(split)
        local = split.kind == "local"
        times = self._predicted(split, head, way)
        times = times if local else self.figures.over_link(times, split.nbytes)
        broken = refusals(self.problem, split) or ((unfit,) if unfit else ())
        measured = way is not None and way.measured
        return Candidate(
            kind=split.kind,
            frontier=tuple(graph.tensors[name] for name in split.frontier),
            encoding=self._encoding(split, way),
            payload_bytes=split.nbytes,
            head_share=1.0 if local else share_before(self.device.costs.node_s, head),
            head_nodes=len(head),
            nodes=tuple(head) if len(split.frontier) > 1 else (),
            module=self.modules.get(split.frontier[0]) if len(split.frontier) == 1 else None,
            learned=None if way is None else way.point,
            accuracy=split.accuracy,
            memory_bytes=split.memory_bytes,
            predicted=times,
            measured=times if measured else None,
            figures=self.figures.figures(times, split.nbytes, local=local),
            spread_s=way.spread_s if way is not None else None,
            refused="; ".join(broken) or None,
        )

    def _predicted(self, split: Split, head: Sequence[str], way: LearnedWay | None) -> StageTimes:
        """Return the times on both machines; the link is not in them."""
        inside = frozenset(head)
        tail = [node.key for node in self.network.graph.nodes if node.key not in inside]
        if way is not None:
            return StageTimes(device_s=way.head_s, link_s=None, server_s=way.tail_s)
        if split.bottleneck is not None:
            return self.assumptions.times(
                head_device_s=self.device.head_s(head),
                head_server_s=self.server.head_s(head),
                tail_s=self.server.tail_s(tail),
            )
        sent = self._sent(split)
        return StageTimes(
            device_s=self.device.head_s(head) + sum(raw.encode_s for raw in sent),
            link_s=0.0 if split.kind == "local" else None,
            server_s=self.server.tail_s(tail) + sum(raw.decode_s for raw in sent) if tail else 0.0,
        )

    def _sent(self, split: Split) -> list[RawInput]:
        return [
            next(raw for raw in self.problem.raw[name] if raw.encoding == encoding)
            for name, encoding in split.encodings.items()
        ]

    def _encoding(self, split: Split, way: LearnedWay | None) -> str:
        if split.kind == "bottleneck":
            return ASSUMED_ENCODING if way is None else "latent"
        if not split.frontier:
            return "nothing"
        tensors = self.network.graph.tensors
        kinds = (split.encodings.get(name, tensors[name].dtype) for name in split.frontier)
        return "+".join(dict.fromkeys(kinds))
