from dataclasses import replace

import msgspec
import pytest

from isthmus.runtime.control import LinkEstimate, make_policy
from isthmus.runtime.control.objective import make_objective
from isthmus.runtime.errors import InputError
from isthmus.runtime.links import load_trace

LINK = LinkEstimate(
    connected=True,
    rate_bytes_per_s=1e5,
    rtt_s=0.02,
    backlog_bytes=0,
    in_flight=0,
    oldest_age_s=None,
    residuals=(0.0,) * 9,
    idle_s=0.05,
)


@pytest.fixture(scope="module")
def metered(ladder):
    """Return the ladder with joules: the widest head takes eight times the narrowest's."""
    records = tuple(
        msgspec.structs.replace(record, energy_j=0.01 * 2**record.point.width_index)
        for record in ladder.records
    )
    return msgspec.structs.replace(ladder, records=records)


@pytest.fixture
def world(loop):
    """Return `world(points, ...)`: a link that carries any point at 20 frames a second."""

    def make(points, spec="constant:50kB", **changes):
        return loop.World(trace=load_trace(spec), points=points, device=loop.make_device(points), **changes)

    return make


def joules(points, run):
    """Return what a run's frames took, by the table; an exit takes its head's least."""
    least = {}
    for record in points.records:
        width = record.point.width_index
        least[width] = min(least.get(width, record.energy_j), record.energy_j)
    return sum(
        points.record(frame.decision.point).energy_j
        if frame.decision.action == "send"
        else least[frame.decision.point.width_index]
        for frame in run.frames
    )


def test_accuracy_charges_nothing(ladder):
    assert make_objective("accuracy", ladder) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("speed", "'speed' is not known; choose one of accuracy, energy, bytes:PER_HOUR"),
        ("bytes:", "is not known"),
        ("bytes:0MB", "is not known"),
        ("bytes:-1MB", "is not known"),
        ("bytes:5", "is not known"),
        ("energy", "joules of some points are unknown; name this device's profile"),
    ],
)
def test_unknown_objectives_are_refused(ladder, name, message):
    with pytest.raises(InputError, match=message):
        make_policy("expected-utility", ladder, objective=name)


def test_a_policy_without_objectives_says_so(ladder):
    with pytest.raises(InputError, match="'robust' knows no objective 'bytes:1MB'"):
        make_policy("robust", ladder, objective="bytes:1MB")


def test_energy_gives_more_correct_answers_per_joule_than_any_other_way(loop, world, metered):
    setting = world(metered)

    def per_joule(name, objective="accuracy"):
        run = loop.simulate(setting, make_policy(name, metered, objective=objective))
        return run.utility * len(run.frames) / joules(metered, run)

    frugal = per_joule("expected-utility", "energy")
    assert frugal > 2 * per_joule("expected-utility")
    for point in ("0,4", "0,8", "1,16", "3,32"):
        assert frugal >= 0.97 * per_joule(f"fixed:{point}")


def test_what_is_drawn_at_rest_makes_accuracy_worth_its_joules(loop, metered):
    """At rest the device draws more than any head takes: then only correct answers count."""

    def chosen(idle_w):
        device = loop.make_device(metered, idle_w=idle_w, interval_s=0.05)
        policy = make_policy("expected-utility", metered, objective="energy")
        for number in range(400):
            decision = policy.decide(LINK, device, budget_s=0.15, now_s=number * 0.05)
        return metered.record(decision.point).utility

    accurate = make_policy("expected-utility", metered).decide(
        LINK, loop.make_device(metered), budget_s=0.15, now_s=0.0
    )
    assert chosen(0.0) < chosen(1000.0) == metered.record(accurate.point).utility


def test_joules_of_the_radio_make_large_payloads_dear(loop, metered):
    def chosen(per_byte_j):
        device = loop.make_device(metered, transmit_j_per_byte=per_byte_j)
        policy = make_policy("expected-utility", metered, objective="energy")
        for number in range(400):
            decision = policy.decide(LINK, device, budget_s=0.15, now_s=number * 0.05)
        return decision

    assert chosen(0.0).action == "send"
    assert chosen(1e-2).action == "exit"


@pytest.mark.parametrize("per_hour", [2e6, 6e6, 12e6])
def test_a_budget_of_bytes_is_kept_and_used(loop, ladder, per_hour):
    """All frames at the largest point and 10 a second would take 19 MB an hour, overhead included."""
    policy = make_policy("expected-utility", ladder, objective=f"bytes:{per_hour / 1e6:g}MB")
    device, estimate = loop.make_device(ladder), replace(LINK, overhead_bytes=112)
    frames = 10 * 60 * 30
    used, values = 0.0, []
    for number in range(frames):
        decision = policy.decide(estimate, device, budget_s=0.15, now_s=number * 0.1)
        values.append(0.7)
        if decision.action == "send":
            record = ladder.record(decision.point)
            used += record.bytes_mean + 112
            values[-1] = record.utility
    assert 0.85 * per_hour / 2 < used < 1.1 * per_hour / 2
    # The bytes buy as much as any point would that is sent as often as they allow.
    for record in ladder.records:
        share = min(1.0, used / frames / (record.bytes_mean + 112))
        assert sum(values) / frames > share * record.utility + (1 - share) * 0.7 - 0.005
    # And they last: the last five minutes are answered like the five before.
    assert sum(values[-3_000:]) == pytest.approx(sum(values[-6_000:-3_000]), rel=0.02)


def test_a_budget_of_next_to_nothing_sends_next_to_nothing(loop, ladder):
    policy = make_policy("expected-utility", ladder, objective="bytes:1B")
    decision = policy.decide(LINK, loop.make_device(ladder), budget_s=0.15, now_s=0.0)
    assert decision.action == "exit"
