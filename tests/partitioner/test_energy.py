import pytest

from isthmus.partitioner.energy import EnergyModel
from isthmus.partitioner.plan import StageTimes
from isthmus.partitioner.search import Link, SearchGraph, SearchNode, SearchProblem, SearchTensor, score
from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import Power, RadioModel

TIMES = StageTimes(device_s=0.1, link_s=0.3, server_s=0.2)


def power(idle_w: float | None, compute_w: float | None, transmit_w: float | None) -> Power:
    return Power(
        idle_w=idle_w, compute_w=compute_w, transmit_w=transmit_w, source="published", origin="a test"
    )


def test_the_whole_board_is_counted_where_idle_watts_are_known() -> None:
    model = EnergyModel.of(power(2.0, 3.0, 1.0))
    assert (model.basis, model.known) == ("board", True)
    # 0.1 s at 5 W, 0.25 s of transfer at 3 W, 0.05 s of round trip and 0.2 s of waiting at 2 W.
    assert model.frame_j(TIMES, rtt_s=0.05, nbytes=1000) == pytest.approx(0.5 + 0.75 + 0.5)


def test_else_only_what_is_above_idle() -> None:
    model = EnergyModel.of(power(None, 3.0, 1.0))
    assert model.basis == "above idle"
    assert model.frame_j(TIMES, rtt_s=0.05, nbytes=1000) == pytest.approx(0.3 + 0.25)


def test_a_radio_is_known_by_its_bytes_and_is_awake_until_the_answer() -> None:
    radio = RadioModel(
        transmit_j_per_byte=1e-4, receive_j_per_byte=1e-4, tail_w=0.5, tail_s=9.0, source="published"
    )
    model = EnergyModel.of(power(2.0, 3.0, None), radio)
    assert model.known
    # 0.1 s at 5 W, then 0.5 s at 2.5 W, and 1,000 bytes.
    assert model.frame_j(TIMES, rtt_s=0.05, nbytes=1000) == pytest.approx(0.5 + 1.25 + 0.1)
    # Watts of sending that are known go before it.
    both = EnergyModel.of(power(2.0, 3.0, 1.0), radio)
    assert both == EnergyModel.of(power(2.0, 3.0, 1.0))


def test_unknown_stays_unknown() -> None:
    local = StageTimes(device_s=0.1, link_s=0.0, server_s=0.0)
    half = EnergyModel.of(power(2.0, 3.0, None))
    assert half.frame_j(TIMES, rtt_s=0.05, nbytes=1000) is None
    assert half.frame_j(local, rtt_s=0.05, nbytes=1000) == pytest.approx(0.5)
    assert EnergyModel.of(None).frame_j(local, rtt_s=0.0, nbytes=1000) is None
    dead = StageTimes(device_s=0.1, link_s=None, server_s=0.2)
    assert EnergyModel.of(power(2.0, 3.0, 1.0)).frame_j(dead, rtt_s=0.0, nbytes=1000) is None


@pytest.mark.parametrize(
    ("watts", "missing"),
    [(None, "computing"), (power(2.0, None, 1.0), "computing"), (power(2.0, 3.0, None), "transmitting")],
)
def test_an_objective_that_needs_them_is_refused(watts: Power | None, missing: str) -> None:
    with pytest.raises(InputError) as caught:
        EnergyModel.of(watts).require("pi")
    assert str(caught.value) == (
        f"pi: its watts of {missing} are unknown, so energy is no objective; "
        "give --power IDLE,COMPUTE,TRANSMIT or add them to its profile"
    )


@pytest.mark.parametrize("by_radio", [False, True])
def test_the_search_counts_the_same_joules(by_radio: bool) -> None:
    radio = RadioModel(
        transmit_j_per_byte=1e-4, receive_j_per_byte=1e-4, tail_w=0.5, tail_s=9.0, source="published"
    )
    model = EnergyModel.of(power(2.0, 3.0, None if by_radio else 1.0), radio)
    graph = SearchGraph(
        nodes=(
            SearchNode(key="a", device_s=0.1, server_s=0.01, device_j=model.compute_j(0.1)),
            SearchNode(key="b", device_s=0.5, server_s=0.2, device_j=model.compute_j(0.5)),
        ),
        tensors=(
            SearchTensor(name="x", nbytes=100, producer=None, consumers=(0,)),
            SearchTensor(name="t", nbytes=1000, producer=0, consumers=(1,)),
            SearchTensor(name="y", nbytes=10, producer=1, consumers=(), is_output=True),
        ),
    )
    problem = SearchProblem(graph=graph, link=Link.constant(4000, 0.05), power=model.for_search())
    (split,) = score(problem, frozenset({"t"}))
    assert split.energy_j == pytest.approx(model.frame_j(TIMES, rtt_s=0.05, nbytes=1000))
