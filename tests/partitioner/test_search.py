import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.partitioner.answer import decide
from isthmus.partitioner.facts import BottleneckAssumption, BottleneckRules, LinkProfile, TensorFact
from isthmus.partitioner.plan import Candidate
from isthmus.partitioner.ranking import best_bottleneck, fastest, finalists, pareto, total
from isthmus.partitioner.search import CutCost, Problem, RawInput, enumerate_candidates
from isthmus.runtime.errors import PlanError

IMAGE = TensorFact(name="image", dtype="float32", shape=(1, 3, 32, 32), nbytes=12288)


def tensor(name: str, *shape: int, dtype: str = "float32") -> TensorFact:
    return TensorFact(name=name, dtype=dtype, shape=shape, nbytes=4 * math.prod(shape))


def cut(name: str, share: float, *shape: int, scale: float = 0.1, **other: str) -> CutCost:
    """A cut of a network that takes `scale` seconds on the device and a tenth of that on the server."""
    return CutCost(
        tensor=tensor(name, *shape, **other),
        head_device_s=share * scale,
        head_server_s=share * scale / 10,
        tail_server_s=(1 - share) * scale / 10,
        head_share=share,
    )


def problem(*cuts: CutCost, rate: float = 125e3, rtt: float = 0.02, **changes: object) -> Problem:
    base = Problem(
        inputs=(IMAGE,),
        raw=(RawInput(encoding="uint8", nbytes=3072),),
        local_s=0.1,
        remote_s=0.01,
        cuts=cuts,
        link=LinkProfile(rate_bytes_per_s=rate, rtt_s=rtt),
        assumption=BottleneckAssumption(),
        rules=BottleneckRules(),
    )
    return replace(base, **changes)


def by_kind(found: list[Candidate], kind: str) -> list[Candidate]:
    return [item for item in found if item.kind == kind]


def test_the_arithmetic_of_every_kind() -> None:
    found = enumerate_candidates(problem(cut("a", 0.4, 1, 16, 16, 16)))
    local, offload, split, bottleneck = found
    assert (local.kind, local.payload_bytes, local.times.total_s) == ("local", 0, 0.1)
    assert offload.times.total_s == pytest.approx(3072 / 125e3 + 0.02 + 0.01)
    assert offload.frontier == (IMAGE,)
    assert split.payload_bytes == 16384
    assert split.times.total_s == pytest.approx(0.04 + 16384 / 125e3 + 0.02 + 0.006)
    # 4096 elements at a byte each, divided by 16; below a sixth of the raw 3072 bytes.
    assert bottleneck.payload_bytes == 256
    assert bottleneck.encoding == "assumed latent"
    assert bottleneck.times.device_s == pytest.approx(0.04 / 3)
    assert bottleneck.times.server_s == pytest.approx(0.5 * 0.004 + 0.006)
    assert bottleneck.times.link_s == pytest.approx(256 / 125e3 + 0.02)


def test_assumed_bytes_are_capped_by_the_raw_input_and_can_be_given() -> None:
    wide = problem(cut("a", 0.4, 1, 64, 32, 32))
    assert by_kind(enumerate_candidates(wide), "bottleneck")[0].payload_bytes == 512
    given_bytes = replace(wide, assumption=BottleneckAssumption(payload_bytes=300))
    assert by_kind(enumerate_candidates(given_bytes), "bottleneck")[0].payload_bytes == 300


def test_only_float_feature_maps_can_hold_a_bottleneck_and_only_known_sizes_can_be_cut() -> None:
    unknown = replace(cut("u", 0.5, 1), tensor=TensorFact(name="u", dtype="int64", shape=None, nbytes=None))
    found = enumerate_candidates(
        problem(cut("v", 0.5, 1, 64), unknown, cut("t", 0.5, 1, 8, 8, 8, dtype="int64"))
    )
    assert [item.cut for item in by_kind(found, "split")] == ["v", "t"]
    assert by_kind(found, "bottleneck") == []


@pytest.mark.parametrize(
    ("site", "changes", "reason"),
    [
        (cut("a", 0.1, 1, 8, 16, 16), {}, "head below 20% of the network's time"),
        (cut("a", 0.8, 1, 8, 16, 16), {}, "tail below 25% of the network's time"),
        (cut("a", 0.5, 1, 8, 16, 3), {}, "feature map below 4x4"),
        (cut("a", 0.5, 1, 8, 16, 16), {"allowed": frozenset({"b"})}, "not among the allowed cuts"),
        (cut("a", 0.5, 1, 8, 16, 16), {"needs_module": True}, "no module of the network has this output"),
        (
            cut("a", 0.5, 1, 8, 16, 16),
            {"rules": BottleneckRules(encoder_budget_s=0.01)},
            "encoder above its budget of 10 ms",
        ),
        (cut("a", 0.5, 1, 8, 16, 16), {"rules": BottleneckRules(encoder_budget_s=0.02)}, None),
    ],
)
def test_rules_refuse_by_name(site: CutCost, changes: dict[str, object], reason: str | None) -> None:
    found = by_kind(enumerate_candidates(problem(site, **changes)), "bottleneck")
    assert [item.refused for item in found] == [reason]


def test_a_dead_link_leaves_the_device() -> None:
    found = enumerate_candidates(problem(cut("a", 0.4, 1, 16, 16, 16), rate=0.0))
    assert [item.times.total_s for item in found] == [0.1, None, None, None]
    choice = decide(
        found, objective="latency", rules=BottleneckRules(), assumption=BottleneckAssumption(), deadline_s=0.2
    )
    assert (choice.kind, choice.gain, choice.deadline_met) == ("local", None, True)
    assert "with a split at 'a' no frame would ever be answered" in choice.reason
    assert pareto(found) == (0,)


def random_problem(rng: np.random.Generator) -> Problem:
    shares = np.sort(rng.random(rng.integers(0, 8)))
    cuts = []
    for index, share in enumerate(shares):
        side = int(rng.choice([1, 4, 8, 16]))
        shape = (1, int(rng.integers(1, 64)), side, side) if rng.random() < 0.8 else (1, 64)
        cuts.append(cut(f"t{index}", float(share), *shape, scale=float(rng.choice([0.01, 0.1, 1.0]))))
    allowed = None if rng.random() < 0.7 else frozenset(c.tensor.name for c in cuts if rng.random() < 0.5)
    return problem(
        *cuts,
        rate=float(rng.choice([0, 1e4, 1e5, 1e6, 1e8])),
        rtt=float(rng.choice([0, 0.02])),
        local_s=float(rng.choice([0.01, 0.1, 1.0])),
        allowed=allowed,
        assumption=BottleneckAssumption(
            encoder_fraction=float(rng.choice([0.1, 1.0])), decoder_fraction=float(rng.choice([0.0, 0.5]))
        ),
    )


def brute_force(p: Problem) -> list[tuple[str, str | None, float]]:
    """All ways with their totals, from the formulas alone: (kind, cut, seconds)."""

    def link(nbytes: float) -> float:
        return math.inf if p.link.rate_bytes_per_s == 0 else nbytes / p.link.rate_bytes_per_s + p.link.rtt_s

    ways: list[tuple[str, str | None, float]] = [("local", None, p.local_s)]
    ways += [("offload", None, raw.encode_s + link(raw.nbytes) + raw.decode_s + p.remote_s) for raw in p.raw]
    for c in p.cuts:
        name, shape = c.tensor.name, c.tensor.shape or ()
        if p.allowed is not None and name not in p.allowed:
            continue
        elements = math.prod(shape)
        ways.append(("split", name, c.head_device_s + link(4 * elements) + c.tail_server_s))
        fits = len(shape) == 4 and min(shape[2:]) >= 4 and 0.2 <= c.head_share <= 0.75
        if fits:
            nbytes = math.ceil(min(elements / 16, 3072 / 6))
            server = p.assumption.decoder_fraction * c.head_server_s + c.tail_server_s
            device = p.assumption.encoder_fraction * c.head_device_s
            ways.append(("bottleneck", name, device + link(nbytes) + server))
    return ways


@given(st.integers(0, 2**32 - 1))
def test_search_equals_brute_force(seed: int) -> None:
    p = random_problem(np.random.default_rng(seed))
    found = enumerate_candidates(p)
    open_ones = [item for item in found if item.refused is None]
    expected = brute_force(p)
    assert [(item.kind, item.cut) for item in open_ones] == [way[:2] for way in expected]
    np.testing.assert_allclose([total(item) for item in open_ones], [way[2] for way in expected])
    for kinds in (("local", "offload"), ("split", "bottleneck"), ("bottleneck",)):
        index = fastest(found, kinds)
        best = min((way[2] for way in expected if way[0] in kinds), default=None)
        assert (None if index is None else total(found[index])) == (
            None if best is None else pytest.approx(best)
        )


@given(st.integers(0, 2**32 - 1))
def test_the_choice_is_the_fastest_unless_the_gain_is_too_small(seed: int) -> None:
    p = random_problem(np.random.default_rng(seed))
    found = enumerate_candidates(p)
    expected = brute_force(p)
    endpoint = min(way[2] for way in expected if way[0] in ("local", "offload"))
    interior = min((way[2] for way in expected if way[0] in ("split", "bottleneck")), default=math.inf)
    choice = decide(found, objective="latency", rules=p.rules, assumption=p.assumption)
    if interior * 1.05 < endpoint:
        assert choice.kind in ("split", "bottleneck")
        assert choice.total_s is not None
        assert choice.total_s <= interior * 1.1 * (1 + 1e-9)
        assert choice.total_s * 1.05 < endpoint
    else:
        assert choice.kind in ("local", "offload")
        assert choice.total_s == pytest.approx(endpoint)
        assert choice.reason.startswith("do not split: ")


@given(st.integers(0, 2**32 - 1))
def test_pareto_set_equals_its_definition(seed: int) -> None:
    found = enumerate_candidates(random_problem(np.random.default_rng(seed)))

    def point(item: Candidate) -> tuple[float, float, float]:
        return total(item), item.payload_bytes, item.predicted.device_s

    alive = [i for i, item in enumerate(found) if item.refused is None and total(item) < math.inf]
    beaten = {
        i
        for i in alive
        for j in alive
        if point(found[j]) != point(found[i])
        and all(a <= b for a, b in zip(point(found[j]), point(found[i]), strict=True))
    }
    front = pareto(found)
    assert {point(found[i]) for i in front} == {point(found[i]) for i in alive if i not in beaten}
    assert len({point(found[i]) for i in front}) == len(front)


def test_of_equally_fast_bottlenecks_the_smallest_tensor_wins_then_the_deepest() -> None:
    p = problem(
        cut("early", 0.25, 1, 16, 32, 32),
        cut("before", 0.30, 1, 64, 8, 8),
        cut("after", 0.31, 1, 64, 8, 8),
        cut("late", 0.74, 1, 8, 8, 8),
        rate=125e6,
    )
    found = enumerate_candidates(p)
    quickest = fastest(found, ("bottleneck",))
    assert quickest is not None
    assert found[quickest].cut == "early"
    best = best_bottleneck(found, p.rules)
    assert best is not None
    assert found[best].cut == "after"
    exact = best_bottleneck(found, BottleneckRules(tolerance=0.0))
    assert exact is not None
    assert found[exact].cut == "early"


def test_finalists_take_turns_and_skip_twins() -> None:
    p = problem(
        cut("before", 0.30, 1, 16, 16, 16),
        cut("after", 0.31, 1, 16, 16, 16),
        cut("deep", 0.60, 1, 8, 8, 8),
        cut("vector", 0.99, 1, 16),
        rate=125e6,
    )
    found = enumerate_candidates(p)
    assert finalists(found, p.rules, 10) == ["after", "deep", "vector"]
    assert finalists(found, p.rules, 1) == ["after"]
    assert finalists(enumerate_candidates(problem()), p.rules, 3) == []


def test_a_measured_candidate_is_not_beaten_by_a_prediction() -> None:
    p = problem(cut("a", 0.25, 1, 16, 16, 16), cut("b", 0.5, 1, 16, 16, 16), rate=125e6)
    found = enumerate_candidates(p)
    slow = msgspec.structs.replace(found[4].predicted, device_s=0.03)
    measured = [
        msgspec.structs.replace(item, measured=slow)
        if item.kind == "bottleneck" and item.cut == "b"
        else item
        for item in found
    ]
    index = fastest(measured, ("bottleneck",))
    assert index is not None
    assert measured[index].cut == "b"


def test_a_bottleneck_that_was_asked_for_admits_what_would_be_faster() -> None:
    p = problem(cut("a", 0.4, 1, 16, 16, 16), local_s=0.01)
    choice = decide(
        enumerate_candidates(p),
        objective="bottleneck",
        rules=p.rules,
        assumption=p.assumption,
        deadline_s=0.1,
    )
    assert (choice.kind, choice.cut, choice.deadline_met) == ("bottleneck", "a", True)
    assert choice.gain is not None
    assert choice.gain < 1
    assert choice.reason == (
        "train a bottleneck at 'a': 43.4 ms, assuming an encoder of 0.33 of the head and a payload of 256 B; "
        "running it all on the device would be 4.3x faster (10 ms); it meets the deadline of 100 ms, "
        "and so does running it all on the device, which costs no accuracy"
    )


def test_no_place_for_a_bottleneck_says_why() -> None:
    p = problem(cut("a", 0.1, 1, 8, 8, 8), cut("b", 0.15, 1, 8, 8, 8), cut("c", 0.9, 1, 8, 8, 8))
    with pytest.raises(PlanError) as caught:
        decide(enumerate_candidates(p), objective="bottleneck", rules=p.rules, assumption=p.assumption)
    assert str(caught.value) == (
        "no cut fits a bottleneck: head below 20% of the network's time (2x), "
        "tail below 25% of the network's time (1x); relax the rules or allow other cuts"
    )
    with pytest.raises(PlanError, match="no cut of this network is a feature map"):
        decide(
            enumerate_candidates(problem(cut("v", 0.5, 1, 64))),
            objective="bottleneck",
            rules=p.rules,
            assumption=p.assumption,
        )


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        (
            {"local_s": 0.02},
            "local",
            "do not split: run all of it on the device (20 ms); "
            "2.2x faster than a bottleneck (assumed) at 'a' (43.4 ms)",
        ),
        (
            {"local_s": 10.0, "cuts": ()},
            "offload",
            "do not split: send the input as uint8 (3.07 kB) and run all of it on the server (54.6 ms); "
            "no other cut is possible",
        ),
        (
            {"local_s": 0.05, "cuts": (cut("v", 0.5, 1, 16, scale=0.02),)},
            "split",
            "split at 'v' (64 B cross): 31.5 ms; 1.6x faster than running it all on the device (50 ms)",
        ),
        (
            {"local_s": 0.0441},
            "local",
            "do not split: run all of it on the device (44.1 ms); "
            "a bottleneck (assumed) at 'a' takes as long (43.4 ms)",
        ),
    ],
)
def test_the_sentence(changes: dict[str, object], kind: str, sentence: str) -> None:
    p = problem(cut("a", 0.4, 1, 16, 16, 16), **changes)
    choice = decide(enumerate_candidates(p), objective="latency", rules=p.rules, assumption=p.assumption)
    assert (choice.kind, choice.reason) == (kind, sentence)
