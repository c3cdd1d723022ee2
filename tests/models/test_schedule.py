import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.models.schedule import Schedule, batch_slices, sample_counts


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_rate_rises_then_falls_to_zero() -> None:
    schedule = Schedule(warm_up=0.1)
    rates = [schedule.rate(step / 100) for step in range(101)]
    assert rates[0] == 0.0
    assert rates[10] == pytest.approx(1.0)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0)
    assert schedule.rate(1.5) == pytest.approx(0.0)


def test_stages_follow_progress() -> None:
    schedule = Schedule(features=0.4)
    assert [schedule.answers(progress) for progress in (0.0, 0.39, 0.4, 1.0)] == [False, False, True, True]


def test_only_the_full_width_is_trained_at_first() -> None:
    assert Schedule(full_width=0.5).shares(0.49, 4, _generator()) == [(3, 1.0)]


def test_the_sandwich_always_has_both_ends() -> None:
    schedule, generator = Schedule(full_width=0.5), _generator()
    steps = [schedule.shares(0.6, 4, generator) for _ in range(60)]
    assert all([step[0][0], step[1][0]] == [3, 0] for step in steps)
    assert {step[2][0] for step in steps} == {1, 2}
    assert all(sum(share for _, share in step) == pytest.approx(1.0) for step in steps)


@pytest.mark.parametrize(("widths", "expected"), [(1, {0}), (2, {0, 1}), (3, {0, 1, 2})])
def test_few_widths(widths: int, expected: set[int]) -> None:
    assert {index for index, _ in Schedule().shares(0.9, widths, _generator())} == expected


@given(count=st.integers(2, 300), seed=st.integers(0, 99), widths=st.integers(1, 6))
def test_slices_cover_the_batch_once(count: int, seed: int, widths: int) -> None:
    shares = Schedule(full_width=0.0).shares(0.5, widths, _generator(seed))
    slices = batch_slices(shares, count)
    covered = [index for _, part in slices for index in range(count)[part]]
    assert covered == list(range(count))
    assert slices[0][0] == widths - 1
    assert all(part.stop - part.start >= 2 for _, part in slices)


@given(count=st.integers(1, 200), seed=st.integers(0, 99))
def test_counts_are_valid_prefixes(count: int, seed: int) -> None:
    counts = sample_counts(count, (2, 4, 16), _generator(seed))
    assert counts.shape == (count,)
    assert 1 <= int(counts.min()) <= int(counts.max()) <= 16


def test_all_prefixes_occur_and_the_full_one_most() -> None:
    counts = sample_counts(4000, (2, 4, 16), _generator())
    shares = counts.bincount(minlength=17)[1:] / 4000
    assert (shares > 0.005).all()
    # A half always, a third of a quarter, a sixteenth of a quarter.
    assert shares[15].item() == pytest.approx(0.5 + 0.25 / 3 + 0.25 / 16, abs=0.04)
    assert shares[1].item() == pytest.approx(0.25 / 3 + 0.25 / 16, abs=0.03)
