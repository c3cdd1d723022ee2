"""Enumerate the single-tensor cuts of a network.

Pure and exact: costs come in as facts, every single-tensor cut is weighed. The latency of a frame is device
time + payload bytes / rate + RTT + server time; the answer's few bytes are left to the RTT. Everything on the
device pays no link at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.partitioner.facts import BottleneckAssumption, BottleneckRules, LinkProfile, TensorFact
from isthmus.partitioner.plan import Candidate, StageTimes
from isthmus.partitioner.search.problem import RawInput


@dataclass(frozen=True, slots=True, kw_only=True)
class CutCost:
    """An interior cut with what its halves cost.

    Attributes:
        tensor: What crosses.
        head_device_s: Seconds of the head on the device.
        head_server_s: Seconds of the head if the server ran it; a decoder is a fraction of this.
        tail_server_s: Seconds of the tail on the server.
        head_share: Share of the network's time in the head, in [0, 1].
        module: The torch module whose output the tensor is, where known.
    """

    tensor: TensorFact
    head_device_s: float
    head_server_s: float
    tail_server_s: float
    head_share: float
    module: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything a search needs.

    Attributes:
        inputs: The network's inputs.
        raw: The ways to send them; the first is the plain one that `max_raw_fraction` refers to.
        local_s: Seconds of the whole network on the device.
        remote_s: Seconds of the whole network on the server.
        cuts: The interior cuts, in the order of execution.
        link: Between the two.
        assumption: What an untrained bottleneck is taken to cost.
        rules: Where a bottleneck may stand.
        allowed: Tensors that may be cut at, or None for all.
        needs_module: Whether a bottleneck needs a torch module path, because it is to be trained there.
    """

    inputs: tuple[TensorFact, ...]
    raw: tuple[RawInput, ...]
    local_s: float
    remote_s: float
    cuts: tuple[CutCost, ...]
    link: LinkProfile
    assumption: BottleneckAssumption
    rules: BottleneckRules
    allowed: frozenset[str] | None = None
    needs_module: bool = False


def enumerate_candidates(problem: Problem) -> list[Candidate]:
    """Return every candidate with predicted times, the refused included: endpoints, then cut by cut."""
    candidates = [
        Candidate(
            kind="local",
            frontier=(),
            encoding="nothing",
            payload_bytes=0,
            head_share=1.0,
            predicted=StageTimes(device_s=problem.local_s, link_s=0.0, server_s=0.0),
        )
    ]
    for raw in problem.raw:
        candidates.append(
            Candidate(
                kind="offload",
                frontier=problem.inputs,
                encoding=raw.encoding,
                payload_bytes=raw.nbytes,
                head_share=0.0,
                predicted=StageTimes(
                    device_s=raw.encode_s,
                    link_s=link_seconds(problem.link, raw.nbytes),
                    server_s=raw.decode_s + problem.remote_s,
                ),
            )
        )
    for cut in problem.cuts:
        if cut.tensor.nbytes is None:
            continue
        candidates.append(_split(problem, cut, cut.tensor.nbytes))
        if is_feature_map(cut.tensor):
            candidates.append(_bottleneck(problem, cut))
    return candidates


def link_seconds(link: LinkProfile, nbytes: int) -> float | None:
    """Return transfer time and RTT of `nbytes` in seconds, or None if they never arrive."""
    if link.rate_bytes_per_s == 0:
        return None
    return nbytes / link.rate_bytes_per_s + link.rtt_s


def bottleneck_bytes(problem: Problem, tensor: TensorFact) -> int:
    """Return the payload assumed for a bottleneck at `tensor`."""
    assumption = problem.assumption
    if assumption.payload_bytes is not None:
        return assumption.payload_bytes
    largest = assumption.max_raw_fraction * problem.raw[0].nbytes
    return math.ceil(min(assumption.compression * tensor.elements, largest))


def is_feature_map(tensor: TensorFact) -> bool:
    """Say whether a convolutional bottleneck could stand at `tensor`: a float map [1, C, h, w]."""
    is_float = tensor.dtype.startswith(("float", "bfloat"))
    return is_float and tensor.shape is not None and len(tensor.shape) == 4


def _split(problem: Problem, cut: CutCost, nbytes: int) -> Candidate:
    return Candidate(
        kind="split",
        frontier=(cut.tensor,),
        encoding=cut.tensor.dtype,
        payload_bytes=nbytes,
        head_share=cut.head_share,
        module=cut.module,
        predicted=StageTimes(
            device_s=cut.head_device_s,
            link_s=link_seconds(problem.link, nbytes),
            server_s=cut.tail_server_s,
        ),
        refused=_not_allowed(problem, cut),
    )


def _bottleneck(problem: Problem, cut: CutCost) -> Candidate:
    nbytes = bottleneck_bytes(problem, cut.tensor)
    times = bottleneck_times(problem, cut, nbytes)
    return Candidate(
        kind="bottleneck",
        frontier=(cut.tensor,),
        encoding="assumed latent",
        payload_bytes=nbytes,
        head_share=cut.head_share,
        module=cut.module,
        predicted=times,
        refused=_not_allowed(problem, cut) or _unfit(problem, cut, times.device_s),
    )


def bottleneck_times(problem: Problem, cut: CutCost, nbytes: int) -> StageTimes:
    """Return the times of a bottleneck at `cut` under the problem's assumption."""
    return StageTimes(
        device_s=problem.assumption.encoder_fraction * cut.head_device_s,
        link_s=link_seconds(problem.link, nbytes),
        server_s=problem.assumption.decoder_fraction * cut.head_server_s + cut.tail_server_s,
    )


def _not_allowed(problem: Problem, cut: CutCost) -> str | None:
    if problem.allowed is not None and cut.tensor.name not in problem.allowed:
        return "not among the allowed cuts"
    return None


def _unfit(problem: Problem, cut: CutCost, encoder_s: float) -> str | None:
    """Return why no bottleneck may stand at `cut`, or None."""
    rules, shape = problem.rules, cut.tensor.shape
    assert shape is not None, "only feature maps get here"
    if problem.needs_module and cut.module is None:
        return "no module of the network has this output"
    if min(shape[2:]) < rules.min_side:
        return f"feature map below {rules.min_side}x{rules.min_side}"
    if cut.head_share < rules.min_head_share:
        return f"head below {rules.min_head_share:.0%} of the network's time"
    if 1 - cut.head_share < rules.min_tail_share:
        return f"tail below {rules.min_tail_share:.0%} of the network's time"
    if rules.encoder_budget_s is not None and encoder_s > rules.encoder_budget_s:
        return f"encoder above its budget of {rules.encoder_budget_s * 1e3:.3g} ms"
    return None
