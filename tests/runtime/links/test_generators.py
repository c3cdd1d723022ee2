from importlib import resources

import pytest

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
