"""Joules of a simulated device, by hand."""

import msgspec
import pytest

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control import DeviceState
from isthmus.runtime.events import LinkEvent, RunEvent, read_events
from isthmus.runtime.links import RateTrace
from isthmus.runtime.machines import MachineProfile, Power, RadioModel
from isthmus.runtime.simulation import DeviceEnergy, rows, run_device, run_logged, seeded, sweep
from isthmus.runtime.simulation.energy import EnergyAccount, RadioAwake

NARROW = OperatingPoint(width_index=0, channels=4)
RADIO = RadioModel(
    transmit_j_per_byte=1e-3, receive_j_per_byte=2e-3, tail_w=0.5, tail_s=0.05, source="scaled", origin="x"
)
ENERGY = DeviceEnergy(source="model:board", idle_w=2.0, compute_w=5.0, radio=RADIO)


def test_rest_computing_bytes_and_tails_are_added_up(make_world, always):
    # 20 frames in 2 s: head 5 ms and encoding 1 ms each; 1,000 B leave in 10 ms; the answer comes at 40 ms,
    # 10 B by the overhead; each is followed by 50 ms of tail.
    world = make_world(energy=ENERGY, overhead_bytes=10)
    run = run_device(world, always(NARROW))
    # Sent from 6 ms to 16.1 ms, the answer at 40.1 ms is within the tail, so awake until 90.1 ms: 84.1 ms of
    # every 100 ms. The run ends at 2 s, within the last tail: all 20 tails are whole but for what follows it.
    resting, computing = 2.0 * 2.0, 5.0 * 20 * 0.006
    carrying = 20 * (1010 * 1e-3 + 10 * 2e-3)
    awake = 0.5 * 20 * 0.0841
    assert run.energy_j == pytest.approx(resting + computing + carrying + awake)


def test_without_watts_the_tables_joules_stay(make_world, always):
    assert run_device(make_world(), always(NARROW)).energy_j == pytest.approx(2.0)


def test_a_dead_link_keeps_the_radio_awake(make_world, always):
    world = make_world(energy=ENERGY, trace=RateTrace([(1.0, 0.0)]), duration_s=0.1)
    run = run_device(world, always(NARROW))
    # One frame: computed in 6 ms, then its 1,000 B never leave; the exit answers it in 2 ms more, at 96 ms.
    assert run.energy_j == pytest.approx(2.0 * 0.1 + 5.0 * 0.008 + 1.0 + 0.5 * (0.1 - 0.006))


@pytest.mark.parametrize(
    ("transfers", "now_s", "awake_s"),
    [
        ([], 5.0, 0.0),
        ([(1.0, 1.0)], 0.5, 0.0),
        ([(1.0, 1.2)], 1.1, 0.1),
        ([(1.0, 1.2)], 9.0, 0.25),
        ([(1.0, 1.2), (1.22, 1.3)], 9.0, 0.35),
        ([(1.0, 1.0), (2.0, 2.0)], 9.0, 0.1),
        ([(1.0, 1.5), (1.1, 1.2)], 9.0, 0.55),
        ([(1.0, float("inf"))], 3.0, 2.0),
    ],
)
def test_tails_of_transfers_that_meet_are_one(transfers, now_s, awake_s):
    awake = RadioAwake(0.05)
    for begin_s, end_s in transfers:
        awake.crossed(begin_s, end_s)
    assert awake.seconds(now_s) == pytest.approx(awake_s)


def test_a_device_without_a_radio_model_counts_no_bytes():
    account = EnergyAccount(DeviceEnergy(source="model:b", idle_w=1.0, compute_w=0.0), 10.0)
    account.crossed(10.0, 11.0, sent_bytes=10**9)
    assert account.energy_j(12.0, computed_s=1.0) == 2.0


def test_watts_of_a_profile():
    power = Power(idle_w=2.0, compute_w=4.0, transmit_w=None, source="scaled", origin="x", compute_threads=4)
    facts = {"name": "board", "origin": "x", "source": "scaled", "processor": "x", "provider": "x"}
    facts |= {"backend": "x", "threads": 1, "power": power, "radio": RADIO}
    energy = DeviceEnergy.of(MachineProfile(**facts))
    assert energy == DeviceEnergy(source="model:board", idle_w=2.0, compute_w=1.0, radio=RADIO)
    assert DeviceEnergy.of(MachineProfile(**{**facts, "threads": None})).compute_w == 4.0
    assert DeviceEnergy.of(MachineProfile(**{**facts, "power": None})) is None


def test_a_policy_is_told_what_sending_and_resting_cost(make_world, always):
    policy = always(NARROW)
    run_device(make_world(energy=ENERGY, duration_s=0.1), policy)
    state: DeviceState = policy.asked[0][1]
    assert (state.transmit_j_per_byte, state.idle_w) == (1e-3, 2.0)


def test_the_log_says_that_its_joules_are_modelled(make_world, always, tmp_path):
    run = run_logged(make_world(energy=ENERGY), always(NARROW), tmp_path / "events.jsonl")
    events = list(read_events(tmp_path / "events.jsonl"))
    assert isinstance(events[0], RunEvent)
    assert (events[0].idle_w, events[0].radio) == (2.0, RADIO)
    links = [event for event in events if isinstance(event, LinkEvent)]
    assert [link.energy_source for link in links] == ["model:board"] * 2
    # A second has half of the frames; the last event stands at the end.
    assert links[0].energy_j == pytest.approx(run.energy_j / 2)
    assert links[1].energy_j == pytest.approx(run.energy_j)


def test_energy_as_the_objective_saves_joules_per_correct_answer(make_world):
    world = make_world(energy=DeviceEnergy(source="model:b", idle_w=0.0, compute_w=5.0), duration_s=30.0)

    def correct_per_j(objective):
        (row,) = rows(sweep(seeded(world, 1), ["expected-utility"], objective=objective))
        return row.utility.mean / row.energy_j.mean

    assert correct_per_j("energy") > 1.05 * correct_per_j("accuracy")


def _without_joules(points):
    records = tuple(msgspec.structs.replace(record, energy_j=None) for record in points.records)
    return msgspec.structs.replace(points, records=records)


def test_rows_without_joules_say_so(make_world):
    world = make_world(points=_without_joules(make_world().points), duration_s=0.5)
    (row,) = rows(sweep(seeded(world, 1), ["expected-utility"]))
    assert row.energy_j is None


def test_other_policies_are_compared_without_the_objective(make_world):
    outcomes = sweep(seeded(make_world(), 1), ["robust", "expected-utility"], objective="energy")
    assert [outcome.policy for outcome in outcomes] == ["robust", "expected-utility"]
