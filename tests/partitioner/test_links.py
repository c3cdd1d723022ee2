import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.partitioner.facts import LinkProfile
from isthmus.partitioner.links import TraceLink, crossing_of
from isthmus.runtime.errors import InputError
from isthmus.runtime.links import RateTrace

SEGMENTS = st.lists(
    st.tuples(st.floats(0.1, 10), st.one_of(st.just(0.0), st.floats(100, 1e6))), min_size=1, max_size=8
)


def over(*segments: tuple[float, float], rtt_s: float = 0.0) -> TraceLink:
    return TraceLink(trace=RateTrace(segments, name="a trace"), rtt_s=rtt_s)


def test_a_constant_link() -> None:
    crossing = crossing_of(LinkProfile(rate_bytes_per_s=1000.0, rtt_s=0.02))
    assert crossing.mean_s(500) == pytest.approx(0.52)
    assert crossing.samples_s(500).tolist() == pytest.approx([0.52])
    assert crossing.for_search(500).rates == ((1, 1000.0),)


def test_a_dead_link_never_answers() -> None:
    for link in (LinkProfile(rate_bytes_per_s=0.0, rtt_s=0.0), over((1.0, 0.0))):
        crossing = crossing_of(link)
        assert crossing.mean_s(1) is None
        assert np.isinf(crossing.samples_s(1)).all()
        assert crossing.for_search(1).rates == ((1, 0.0),)


def test_a_frame_waits_out_a_silence() -> None:
    """Half the time dead: a tiny frame waits a quarter second on average, which no mean rate tells."""
    crossing = crossing_of(over((1.0, 1e9), (1.0, 0.0), rtt_s=0.01))
    assert crossing.mean_s(1) == pytest.approx(0.25 + 0.01, rel=1e-3)
    share_at_once = float((crossing.samples_s(1) < 0.011).mean())
    assert share_at_once == pytest.approx(0.5, abs=0.01)
    trace = crossing.facts.trace
    assert trace is not None
    assert (trace.name, trace.duration_s, trace.dead_share) == ("a trace", 2.0, 0.5)
    assert crossing.facts.rate_bytes_per_s == pytest.approx(0.5e9)


@given(SEGMENTS, st.integers(1, 10**6))
def test_every_start_takes_what_the_trace_says(segments: list[tuple[float, float]], nbytes: int) -> None:
    link = over(*segments)
    crossing = crossing_of(link)
    samples = crossing.samples_s(nbytes)
    step_s = link.trace.duration_s / len(samples)
    for index in range(0, len(samples), 199):
        start_s = (index + 0.5) * step_s
        expected = link.trace.finish(start_s, nbytes) - start_s
        assert samples[index] == (
            math.inf if math.isinf(expected) else pytest.approx(expected, rel=1e-6, abs=1e-6)
        )


@given(SEGMENTS, st.integers(1, 10**6))
def test_the_search_gets_rates_with_the_true_mean(segments: list[tuple[float, float]], nbytes: int) -> None:
    crossing = crossing_of(over(*segments, rtt_s=0.05))
    mean_s, rates = crossing.mean_s(nbytes), crossing.for_search(nbytes).rates
    if mean_s is None:
        assert rates == ((1, 0.0),)
    else:
        assert sum(chance * nbytes / rate for chance, rate in rates) == pytest.approx(mean_s - 0.05, rel=1e-6)


def test_a_negative_rtt_is_refused() -> None:
    with pytest.raises(InputError, match=r"link: RTT -1 s is not 0 or more; give it as e\.g\. 20ms"):
        over((1.0, 1.0), rtt_s=-1)
