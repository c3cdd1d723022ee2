"""What a device set costs: one arithmetic for enumeration, min-cut results, bottlenecks and the final answer.

A device set D is closed under predecessors: what a device node reads was made on the device. A tensor crosses
if it stands on the device and a node outside D reads it; it is counted once however many do. An output of the
network that was made on the device does not cross, and the answer's few bytes are left to the RTT.

- latency = device seconds of D + server seconds of the rest + crossing bytes · E[1/rate] + RTT, the RTT only
  if D is not everything (linear in the bytes, so the expectation is exact);
- energy = joules of D + bytes · (joules per byte + transmit watts · E[1/rate]) + idle watts · (bytes ·
  E[1/rate] + RTT + server seconds);
- period = max(device seconds, transfer seconds, server seconds).

Sums run in the nodes' order, here and in the enumeration, so that floats round alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from isthmus.partitioner.search.found import Split, SplitKind
from isthmus.partitioner.search.growth import Growth, State
from isthmus.partitioner.search.problem import Bottleneck, Objective, RawInput, SearchProblem
from isthmus.runtime.errors import InputError

# Probabilities are sums of floats: this much is rounding.
ROUNDING = 1e-9


class Sending(NamedTuple):
    """One way to send all inputs that cross: their bytes and what encoding and decoding take."""

    nbytes: int
    encode_s: float
    decode_s: float
    encode_j: float
    encodings: tuple[str, ...]


class Point(NamedTuple):
    """The figures of one candidate, smaller is better; `late` is the probability of missing the deadline."""

    latency_s: float
    energy_j: float
    nbytes: int
    period_s: float
    late: float


class Candidate(NamedTuple):
    """A way to run the network, as light as two hundred thousand of them need it."""

    state: State
    sending: Sending
    bottleneck: Bottleneck | None
    point: Point


_NOTHING = Sending(0, 0, 0, 0, ())


class Scorer(Growth):
    """The costs of one problem, prepared for fast scoring."""

    def __init__(self, problem: SearchProblem) -> None:
        """Prepare `problem`."""
        super().__init__(problem.graph)
        self.problem = problem
        self.total_server_s = sum(node.server_s for node in problem.graph.nodes)
        self.rates = [(chance, rate) for chance, rate in problem.link.rates if chance]
        self.seconds_per_byte = _mean_inverse(self.rates)
        self._sendings: dict[int, list[Sending]] = {0: [_NOTHING]}

    def candidates(self, state: State) -> Iterable[Candidate]:
        """Return `state` with every way to send the inputs that cross; none if something cannot cross."""
        if state.unknown:
            return []
        return [
            Candidate(
                state,
                sending,
                None,
                self.point(
                    state.device_s + sending.encode_s,
                    self.total_server_s - state.server_s + sending.decode_s,
                    state.nbytes + sending.nbytes,
                    state.device_j + sending.encode_j,
                    offloads=state.mask != self.full,
                ),
            )
            for sending in self.sendings(state.inputs)
        ]

    def with_bottleneck(self, bottleneck: Bottleneck, state: State) -> Candidate:
        """Return `bottleneck` at the frontier of `state`."""
        kept = bottleneck.keeps_head
        point = self.point(
            bottleneck.encoder_s + (state.device_s if kept else 0),
            self.total_server_s - state.server_s + bottleneck.decoder_s,
            bottleneck.nbytes,
            bottleneck.encoder_j + (state.device_j if kept else 0),
            offloads=True,
        )
        return Candidate(state, _NOTHING, bottleneck, point)

    def point(
        self, device_s: float, server_s: float, nbytes: int, device_j: float, *, offloads: bool
    ) -> Point:
        """Return the figures of these totals."""
        deadline_s = self.problem.constraints.deadline_s
        if not offloads:
            missed = int(deadline_s is not None and device_s > deadline_s)
            return Point(device_s, device_j, nbytes, device_s, missed)
        power, rtt_s, per_byte = self.problem.power, self.problem.link.rtt_s, self.seconds_per_byte
        fixed_s = device_s + server_s + rtt_s
        late: float = 0 if deadline_s is None else self._late(fixed_s, nbytes, deadline_s)
        if per_byte == math.inf:
            return Point(math.inf, math.inf, nbytes, math.inf, late)
        transfer_s = nbytes * per_byte
        energy_j = (
            device_j
            + power.joules_per_byte * nbytes
            + power.transmit_w * transfer_s
            + power.idle_w * (transfer_s + rtt_s + server_s)
        )
        return Point(fixed_s + transfer_s, energy_j, nbytes, max(device_s, transfer_s, server_s), late)

    def _late(self, fixed_s: float, nbytes: int, deadline_s: float) -> float:
        """Return the probability that `nbytes` take longer than what `fixed_s` leaves of the deadline."""
        late: float = 0
        for chance, rate in self.rates:
            if rate == 0 or fixed_s + nbytes / rate > deadline_s:
                late += chance
        return late

    def sendings(self, inputs: int) -> list[Sending]:
        """Return the ways to send the network's inputs whose bits are set, without those another beats."""
        if inputs not in self._sendings:
            self._sendings[inputs] = self._all_sendings(inputs)
        return self._sendings[inputs]

    def ways(self, tensor: int) -> Sequence[RawInput]:
        """Return the ways to send the network's input `tensor`, an index."""
        fact = self.graph.tensors[tensor]
        if self.problem.constraints.no_raw_input:
            return ()
        plain = () if fact.nbytes is None else (RawInput(encoding="plain", nbytes=fact.nbytes),)
        return self.problem.raw.get(fact.name, plain)

    def _all_sendings(self, inputs: int) -> list[Sending]:
        crossing = [self.ways(index) for index, bit in self.input_bit.items() if inputs & bit]
        found: list[Sending] = []
        for ways in itertools.product(*crossing):
            sending = Sending(
                sum(way.nbytes for way in ways),
                sum(way.encode_s for way in ways),
                sum(way.decode_s for way in ways),
                sum(way.encode_j for way in ways),
                tuple(way.encoding for way in ways),
            )
            # Every figure grows with each of the four: what is beaten in all of them is never best.
            if not any(_no_worse(other, sending) for other in found):
                found = [other for other in found if not _no_worse(sending, other)] + [sending]
        return found

    def split(self, candidate: Candidate) -> Split:
        """Return `candidate` with everything it costs, for people."""
        state, sending, bottleneck, point = candidate
        problem, tensors = self.problem, self.graph.tensors
        crossing = self.frontier(state.mask)
        device_s, memory = state.device_s + sending.encode_s, state.weight_bytes + state.peak
        server_s = self.total_server_s - state.server_s + sending.decode_s
        kind: SplitKind = "local" if state.mask == self.full else "split" if state.mask else "offload"
        if bottleneck is not None:
            kind = "bottleneck"
            device_s = bottleneck.encoder_s + (state.device_s if bottleneck.keeps_head else 0)
            server_s += bottleneck.decoder_s
            memory = self.memory_bytes(candidate)
        local = kind == "local"
        inputs = [tensors[index].name for index in crossing if index in self.input_bit]
        dead = self.seconds_per_byte == math.inf and not local
        return Split(
            kind=kind,
            device_mask=state.mask,
            frontier=tuple(tensors[index].name for index in crossing),
            encodings=dict(zip(inputs, sending.encodings, strict=False)),
            bottleneck=bottleneck,
            nbytes=point.nbytes,
            device_s=device_s,
            transfer_s=math.inf if dead else 0 if local else point.nbytes * self.seconds_per_byte,
            rtt_s=0 if local else problem.link.rtt_s,
            server_s=server_s,
            latency_s=point.latency_s,
            energy_j=point.energy_j,
            period_s=point.period_s,
            memory_bytes=memory,
            accuracy=problem.accuracy if bottleneck is None else bottleneck.accuracy,
            on_time=None if problem.constraints.deadline_s is None else 1 - point.late,
        )

    def memory_bytes(self, candidate: Candidate) -> int:
        """Return the bytes that `candidate` needs on the device: weights, and the most that is ever live."""
        state, bottleneck = candidate.state, candidate.bottleneck
        head = state.weight_bytes + state.peak
        if bottleneck is None:
            return head
        return bottleneck.memory_bytes + (head if bottleneck.keeps_head else 0)

    def breaks(self, candidate: Candidate, *, deadline: bool = True) -> bool:
        """Say whether `candidate` breaks the memory or, if `deadline`, the deadline."""
        limits = self.problem.constraints
        most = limits.device_memory_bytes
        if most is not None and self.memory_bytes(candidate) > most:
            return True
        return deadline and limits.deadline_s is not None and not self.on_time(candidate.point)

    def on_time(self, point: Point) -> bool:
        """Say whether the deadline is met as likely as it has to be."""
        return 1 - point.late >= self.problem.constraints.deadline_probability - ROUNDING

    def value(self, objective: Objective, point: Point) -> float:
        """Return what `objective` minimises.

        Raises:
            InputError: If it needs a deadline and there is none.
        """
        if objective.kind == "latency":
            return point.latency_s
        if objective.kind == "energy":
            return point.energy_j
        if objective.kind == "throughput":
            return point.period_s
        if objective.kind == "weighted":
            if point.latency_s == math.inf:
                return math.inf
            return objective.alpha * point.latency_s + objective.beta * point.energy_j
        if self.problem.constraints.deadline_s is None:
            raise InputError("objective 'on-time' needs a deadline; give one")
        return point.late


def _mean_inverse(rates: Sequence[tuple[float, float]]) -> float:
    """Return E[1/rate]; infinite if the link may be dead."""
    if any(rate == 0 for _, rate in rates):
        return math.inf
    return sum(chance / rate for chance, rate in rates)


def _no_worse(one: Sending, other: Sending) -> bool:
    return all(a <= b for a, b in zip(one[:4], other[:4], strict=True))
