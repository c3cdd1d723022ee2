"""What is known of a machine: measured networks, speeds by operator class, memory, watts.

Facts only, in a file that travels: measured on a Raspberry Pi, it is read on a laptop. Every part says
whether it was measured, published by others, or scaled, and nothing unknown has a number.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from isthmus.runtime.machines.radio import RadioModel, Source

MACHINE_SCHEMA_VERSION = 1

Operator = Literal["conv", "depthwise", "matmul", "norm", "pool", "elementwise", "other"]

_MOVERS: tuple[Operator, ...] = ("other", "elementwise", "norm", "pool")
# A half keeps at least this share of what its nodes cost: noise is no reason to believe less.
_LEAST_SHARE = 0.1
# Nearer to all nodes than this is all nodes, summed in another order.
_WHOLE = 1 - 1e-9

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(min_length=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class OperatorWork(msgspec.Struct, frozen=True, array_like=True):
    """What one node has to do, whatever machine does it.

    Attributes:
        operator: Its class.
        flops: Floating-point operations of one sample; a multiply-add is two.
        nbytes: Bytes of the tensors and weights that it reads and writes.
    """

    operator: Operator
    flops: Annotated[float, msgspec.Meta(ge=0)]
    nbytes: Count


class Anchor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tensor at which real halves were measured beside the whole network.

    A cut breaks fused kernels and has the tensor brought into the declared layout, and a half's smaller
    working set fits caches better, so halves are not quite the sum of their nodes.

    Attributes:
        tensor: Where.
        before: Share of the network's node time before it, in [0, 1].
        head_extra_s: Seconds of the head beyond its nodes; may be below 0.
        tail_extra_s: Seconds of the tail beyond its nodes, likewise.
    """

    tensor: str
    before: Annotated[float, msgspec.Meta(ge=0, le=1)]
    head_extra_s: float
    tail_extra_s: float


class NetworkCosts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Node costs of one model on one machine, for a batch of one.

    Attributes:
        source: `measured` there, or `scaled`: estimated from the machine's speeds.
        host: The processor.
        backend: What ran the network, with its version and execution provider.
        clock: What `whole_s` was timed by: `cpu` is the CPU time of the one thread that computes, which
            others on the machine do not lengthen; `wall` the time that passed; `none` where nothing was.
        threads: Threads of one inference, which do not spin; None where the source does not say.
        rounds: Timed rounds of the whole model that were kept, the quieter half; 0 where nothing was timed.
        whole_s: Median seconds of the whole model, end to end, without profiling.
        whole_spread_s: Interquartile range of the same.
        kernel_sum_s: Sum of the kernel times that the profiler reports; the rest of `whole_s` is between
            kernels.
        node_s: Seconds of every node on a path from an input to an output, by the name of its first
            output. They sum to `whole_s`.
        anchors: Where real halves were measured, in the order of `before`; with none, a half costs its nodes.
        work: What every node has to do, so that speeds can be fitted to several networks; may be empty.
        model: The file's name, for messages.
        peak_bytes: Resident memory that running the whole model adds, at its peak; None where not measured.
        energy_j: Joules of one run of the whole model beyond idle, as a meter of that machine read; None
            where there was none.
    """

    source: Source = "measured"
    host: str
    backend: str
    clock: Literal["cpu", "wall", "none"]
    threads: Annotated[int, msgspec.Meta(ge=1)] | None
    rounds: Count
    whole_s: Seconds
    whole_spread_s: Seconds
    kernel_sum_s: Seconds
    node_s: dict[str, Seconds]
    anchors: tuple[Anchor, ...] = ()
    work: dict[str, OperatorWork] = {}
    model: str = ""
    peak_bytes: Count | None = None
    energy_j: Seconds | None = None

    def head_s(self, nodes: Iterable[str]) -> float:
        """Return the predicted seconds of a head of `nodes` on this machine.

        Raises:
            KeyError: If a node is none of the network's.
        """
        return self._half_s(math.fsum(self.node_s[key] for key in nodes), "head_extra_s", head=True)

    def tail_s(self, nodes: Iterable[str]) -> float:
        """Return the predicted seconds of a tail of `nodes` on this machine.

        Raises:
            KeyError: If a node is none of the network's.
        """
        return self._half_s(math.fsum(self.node_s[key] for key in nodes), "tail_extra_s", head=False)

    def _half_s(self, nodes_s: float, extra: str, *, head: bool) -> float:
        """Return `nodes_s` with what a cut adds there.

        Between two anchors that is interpolated. A half smaller than that of any anchor keeps the nearest
        one's proportion: what is noise beside a large half would be all of a small one.
        """
        if not self.anchors or nodes_s <= 0 or nodes_s >= self.whole_s * _WHOLE:
            return nodes_s
        before = nodes_s / self.whole_s if head else 1 - nodes_s / self.whole_s
        after = bisect.bisect(self.anchors, before, key=lambda anchor: anchor.before)
        left, right = self.anchors[max(after - 1, 0)], self.anchors[min(after, len(self.anchors) - 1)]
        span = right.before - left.before
        part = min(1.0, max(0.0, (before - left.before) / span)) if span > 0 else 0.0
        extra_s = (1 - part) * getattr(left, extra) + part * getattr(right, extra)
        smallest_s = self.whole_s * (self.anchors[0].before if head else 1 - self.anchors[-1].before)
        if nodes_s < smallest_s:
            extra_s *= nodes_s / smallest_s
        return float(max(nodes_s + extra_s, _LEAST_SHARE * nodes_s))


class OperatorSpeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast a machine does one class of operators: overhead + flops / rate + bytes / rate.

    Attributes:
        operator: The class.
        flops_per_s: Operations per second, or None where arithmetic did not show in the times.
        bytes_per_s: Bytes of tensors and weights per second, or None where they did not show.
        overhead_s: Seconds of every node beyond both.
        source: Where the three come from.
        origin: One sentence: from how many nodes of what, and how well the fit holds.
    """

    operator: Operator
    flops_per_s: Positive | None
    bytes_per_s: Positive | None
    overhead_s: Seconds
    source: Source
    origin: str

    def seconds(self, flops: float, nbytes: float) -> float:
        """Return the seconds of a node of so many operations and bytes; without either it is no kernel."""
        if flops == 0 and nbytes == 0:
            return 0.0
        compute_s = 0.0 if self.flops_per_s is None else flops / self.flops_per_s
        memory_s = 0.0 if self.bytes_per_s is None else nbytes / self.bytes_per_s
        return self.overhead_s + compute_s + memory_s


class Power(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine draws. A model of its energy, never a measurement of one frame's.

    Attributes:
        idle_w: Watts of the whole board when nothing runs, or None where unknown.
        compute_w: Watts above idle while it computes with `compute_threads`, or None.
        transmit_w: Watts above idle while it sends, or None.
        compute_threads: Threads that were busy when `compute_w` was measured; None: as many as an inference
            has, or an accelerator computed.
        source: Where they come from.
        origin: Who measured what, and how.
    """

    idle_w: Annotated[float, msgspec.Meta(ge=0)] | None
    compute_w: Annotated[float, msgspec.Meta(ge=0)] | None
    transmit_w: Annotated[float, msgspec.Meta(ge=0)] | None
    source: Source
    origin: str
    compute_threads: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def computing_w(self, threads: int | None = None) -> float | None:
        """Return the watts above idle while `threads` compute, in proportion; None where unknown.

        Args:
            threads: Busy threads; None: as many as `compute_w` is for.
        """
        if self.compute_w is None or threads is None or self.compute_threads is None:
            return self.compute_w
        return self.compute_w * min(1.0, threads / self.compute_threads)


class Cited(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one figure of a profile comes from.

    Attributes:
        source: Whether it was measured, published or scaled.
        origin: Who measured what, and how; or from what it was scaled.
    """

    source: Source
    origin: Name


class MachineProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine with one way to run networks on it.

    Attributes:
        schema_version: Of this file format.
        name: What to call it.
        origin: One sentence: how this file came about.
        source: Of the file's times as a whole: `measured` by us on the machine, `published` or `scaled`.
        processor: Its processor as it names itself, or as the source names it.
        provider: The execution provider, e.g. `CPUExecutionProvider`; for other frameworks their name.
        backend: The framework with its version.
        threads: Threads of one inference, or None where the source does not say.
        memory_bytes: Memory that a network may use, or None where unknown.
        power: What it draws, or None where unknown.
        operators: Speeds by class, each class at most once.
        networks: Measured networks by the SHA-256 of the model.
        radio: What its radio costs, or None where unknown or there is none.
        cited: Where single figures come from that differ from what is said beside them, or have nothing
            beside them: `memory_bytes`, `power.idle_w`.
    """

    schema_version: int = MACHINE_SCHEMA_VERSION
    name: Name
    origin: str
    source: Source
    processor: Name
    provider: Name
    backend: Name
    threads: Annotated[int, msgspec.Meta(ge=1)] | None
    memory_bytes: Count | None = None
    power: Power | None = None
    operators: tuple[OperatorSpeed, ...] = ()
    networks: dict[Sha256, NetworkCosts] = {}
    radio: RadioModel | None = None
    cited: dict[str, Cited] = {}

    def speed(self, operator: Operator) -> OperatorSpeed | None:
        """Return the speed of one class, or None where it cannot be told.

        Classes that mostly move bytes stand in for one another; nothing stands in for a product of weights.
        """
        known = {item.operator: item for item in self.operators}
        likely = (operator, *_MOVERS) if operator in _MOVERS else (operator,)
        return next((known[name] for name in likely if name in known), None)
