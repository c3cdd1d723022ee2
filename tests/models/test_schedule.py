import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.models.schedule import NestedDropout, Schedule, batch_slices
from isthmus.runtime.errors import InputError


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
    assert Schedule(full_width=0.5).widths(0.49, 4, _generator()) == [3]
    assert len(Schedule(full_width=0.0).widths(0.0, 4, _generator())) == 3


def test_the_sandwich_always_has_both_ends() -> None:
    schedule, generator = Schedule(full_width=0.5), _generator()
    steps = [schedule.widths(0.6, 4, generator) for _ in range(60)]
    assert all(step[:2] == [3, 0] for step in steps)
    assert {step[2] for step in steps} == {1, 2}


def test_more_random_widths_are_all_different() -> None:
    step = Schedule(random_widths=5).widths(0.9, 6, _generator())
    assert step[:2] == [5, 0]
    assert sorted(step[2:]) == [1, 2, 3, 4]


@pytest.mark.parametrize(("widths", "expected"), [(1, {0}), (2, {0, 1}), (3, {0, 1, 2})])
def test_few_widths(widths: int, expected: set[int]) -> None:
    assert set(Schedule().widths(0.9, widths, _generator())) == expected


@given(count=st.integers(2, 300), seed=st.integers(0, 99), widths=st.integers(1, 6))
def test_shares_cover_the_batch_once(count: int, seed: int, widths: int) -> None:
    schedule = Schedule(full_width=0.0)
    slices = schedule.parts(schedule.widths(0.5, widths, _generator(seed)), count)
    covered = [index for _, part in slices for index in range(count)[part]]
    assert covered == list(range(count))
    assert slices[0][0] == widths - 1
    assert all(part.stop - part.start >= 2 for _, part in slices)


def test_in_a_whole_sandwich_every_width_sees_the_batch() -> None:
    assert Schedule(sandwich="whole").parts([3, 0, 1], 8) == [(index, slice(0, 8)) for index in (3, 0, 1)]


def test_a_batch_too_small_to_share_serves_the_widest() -> None:
    assert batch_slices([(3, 0.4), (0, 0.3), (1, 0.3)], 4) == [(3, slice(0, 4))]


@pytest.mark.parametrize(
    ("schedule", "widths", "count", "message"),
    [
        (
            Schedule(),
            4,
            6,
            "width_shares 0.4,0.3: in batches of 6 images .* give larger batches, .* or sandwich whole",
        ),
        (Schedule(width_shares=(0.5, 0.45)), 3, 24, "in batches of 24 images some of 3 widths"),
        (
            Schedule(width_shares=(0.6, 0.4)),
            4,
            64,
            "width_shares 0.6,0.4: .* less to the widest and the narrowest",
        ),
        (Schedule(full_width=1.0), 2, 64, "full_width_share 1: the narrower of 2 widths"),
        (Schedule(random_widths=0), 3, 64, "random_widths 0: of 3 widths the widest and the narrowest alone"),
    ],
)
def test_a_course_that_never_trains_some_width_is_refused(
    schedule: Schedule, widths: int, count: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        schedule.check_widths(widths, count)


@pytest.mark.parametrize(
    ("schedule", "widths", "count"),
    [
        (Schedule(), 4, 7),
        (Schedule(), 1, 2),
        (Schedule(full_width=1.0), 1, 64),
        (Schedule(width_shares=(0.6, 0.4), random_widths=0), 2, 5),
        (Schedule(width_shares=(0.6, 0.4), sandwich="whole"), 4, 2),
    ],
)
def test_a_course_that_trains_every_width_is_not(schedule: Schedule, widths: int, count: int) -> None:
    schedule.check_widths(widths, count)
    steps = [schedule.parts(schedule.widths(1.0, widths, _generator(seed)), count) for seed in range(20)]
    assert {index for step in steps for index, _ in step} == set(range(widths))


def test_steps_fall_by_a_factor_and_begin_anew_in_stage_two() -> None:
    steps = Schedule(warm_up=0.0, decay="steps", steps=(0.5,), factor=0.1, features=0.5, restart=True)
    assert [steps.rate(progress) for progress in (0.0, 0.24, 0.26, 0.51, 0.74, 0.76)] == pytest.approx(
        [1.0, 1.0, 0.1, 1.0, 1.0, 0.1]
    )
    assert Schedule(warm_up=0.0, decay="constant").rate(0.99) == 1.0


def test_narrow_widths_come_in_slowly() -> None:
    ramped = Schedule(full_width=0.4, ramp=0.2, ramp_start=0.1)
    weights = [ramped.narrow_weight(progress) for progress in (0.4, 0.5, 0.6, 0.9)]
    assert weights == pytest.approx([0.1, 0.55, 1.0, 1.0])
    assert Schedule(full_width=0.4).narrow_weight(0.4) == 1.0


@given(count=st.integers(1, 200), seed=st.integers(0, 99))
def test_counts_are_valid_prefixes(count: int, seed: int) -> None:
    counts = NestedDropout().counts(count, (2, 4, 16), _generator(seed))
    assert counts.shape == (count,)
    assert 1 <= int(counts.min()) <= int(counts.max()) <= 16


def test_all_prefixes_occur_and_the_full_one_most() -> None:
    counts = NestedDropout().counts(4000, (2, 4, 16), _generator())
    shares = counts.bincount(minlength=17)[1:] / 4000
    assert (shares > 0.005).all()
    # A half always, a third of a quarter, a sixteenth of a quarter.
    assert shares[15].item() == pytest.approx(0.5 + 0.25 / 3 + 0.25 / 16, abs=0.04)
    assert shares[1].item() == pytest.approx(0.25 / 3 + 0.25 / 16, abs=0.03)
