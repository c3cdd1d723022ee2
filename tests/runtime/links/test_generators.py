from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import InputError
from isthmus.runtime.links import load_trace
from isthmus.runtime.links.generators import outage_csv


def test_the_shipped_file_is_what_the_generator_makes():
    shipped = resources.files("isthmus.runtime.links").joinpath("data/outage.csv")
    assert shipped.read_text(encoding="utf-8") == outage_csv()


def test_the_shipped_uplink_falls_recovers_stalls_and_recovers():
    trace = load_trace("outage")
    assert trace.duration_s == 24.0

    def mean(start_s, end_s):
        return trace.bytes_between(start_s, end_s) / (end_s - start_s)

    assert mean(0, 4) == pytest.approx(20_000, rel=0.05)
    assert mean(9, 11.5) == pytest.approx(4_000, rel=0.05)
    assert mean(11.5, 13.5) == pytest.approx(12_000, rel=0.05)
    assert mean(13.5, 17) == 0
    assert trace.rate_at(13.25) > 0
    assert trace.rate_at(17.0) > 0
    assert mean(20, 24) > mean(0, 4)


def test_it_is_noisy_but_only_slightly():
    trace = load_trace("outage")
    good = [rate for start_s, rate in trace.segments() if start_s < 4]
    assert len(set(good)) > 8
    assert max(abs(rate / 20_000 - 1) for rate in good) <= 0.06


def test_a_sine_swings_between_its_bounds_and_carries_their_middle():
    trace = load_trace("sine:20kB..200kB@10s")
    assert trace.duration_s == pytest.approx(10.0)
    assert trace.mean_rate == pytest.approx(110_000)
    assert trace.peak_rate == pytest.approx(200_000, rel=0.01)
    assert trace.rate_at(7.5) == pytest.approx(20_000, rel=0.05)
    assert trace.bytes_between(0, 5) == pytest.approx(5 * (110_000 + 90_000 * 2 / 3.14159265), rel=1e-3)
    assert min(rate for _, rate in load_trace("sine:0B..1kB@1s").segments()) >= 0


def test_a_markov_link_holds_its_states_for_their_means():
    trace = load_trace("markov:10kB@2s,0B@500ms,seed=1,for=10000s")
    assert trace.duration_s == pytest.approx(10_000)
    assert {rate for _, rate in trace.segments()} == {10_000.0, 0.0}
    assert trace.rate_at(0.0) == 10_000
    # 4,000 cycles: the share of time that is on is 0.8, the mean time between starts 2.5 s.
    assert trace.mean_rate == pytest.approx(8_000, rel=0.03)
    assert len(trace.segments()) == pytest.approx(2 * 10_000 / 2.5, rel=0.05)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_seed_is_a_trace(seed):
    spec = f"markov:10kB@2s,1kB@1s,seed={seed},for=20s"
    trace = load_trace(spec)
    assert trace.segments() == load_trace(spec).segments()
    assert trace.duration_s == pytest.approx(20)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sine:20kB@10s", "not LOW..HIGH@PERIOD"),
        ("sine:20kB..10kB@10s", "10kB is below 20kB"),
        ("sine:1kB..2kB@0s", "positive duration"),
        ("markov:20kB@4s", "two states"),
        ("markov:20kB@4s,0B@1s,2kB@1s", "two states"),
        ("markov:20kB@4s,0B@1s,seed=x", "whole seed"),
        ("markov:20kB@4s,0B", "'0B' is neither"),
        ("markov:20kB@4s,0B@0s", "out of proportion"),
        ("markov:20kB@4s,0B@1us,for=100h", "out of proportion"),
    ],
)
def test_generators_name_what_is_wrong(spec, message):
    with pytest.raises(InputError, match=message):
        load_trace(spec)
