"""The palette is a promise to people: measured here as they would see it."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.report.theme import (
    COLOURS,
    OUTCOME_LINES,
    OUTCOME_MARKS,
    OUTCOME_WORDS,
    RUN_COLOURS,
    WIDTH_MARKS,
    width_colour,
)
from isthmus.runtime.events import OUTCOMES

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Ottosson 2020: linear sRGB to cone responses, and their cube roots to OKLab.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
GROUPS = {
    "outcomes": tuple(OUTCOMES),
    "widths": ("w0", "w1", "w2", "w3"),
    "stages": ("device0", "device1", "link", "server0", "server1", "unexplained"),
    "joules": ("idle", "device0", "link"),
    "runs": RUN_COLOURS,
}


def linear(colour: str) -> NDArray[np.float64]:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def seen(colour: str, sight: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(TO_OKLAB @ np.cbrt(np.clip(TO_CONES @ (sight @ linear(colour)), 0, None)))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_of_a_figure_stay_apart(group: str, sight: str, theme: int) -> None:
    for one, other in itertools.combinations(GROUPS[group], 2):
        distance = np.linalg.norm(
            seen(COLOURS[one][theme], SIGHT[sight]) - seen(COLOURS[other][theme], SIGHT[sight])
        )
        assert distance >= 0.08, (one, other)


def test_the_measure_of_distance_can_fail() -> None:
    # The classic red and green that deuteranopes confuse.
    red, green = (seen(colour, SIGHT["deuteranopia"]) for colour in ("#a86b32", "#8a7f2d"))
    assert np.linalg.norm(red - green) < 0.08


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out_from_their_ground(theme: int) -> None:
    for ground in ("panel", "ground"):
        for text in ("ink", "soft", "sound", "late", "remote"):
            assert contrast(COLOURS[text][theme], COLOURS[ground][theme]) >= 4.4, text
    for mark in (*OUTCOMES, "w0", "w1", "w2", "w3", "deadline", "estimate", *RUN_COLOURS):
        assert contrast(COLOURS[mark][theme], COLOURS["panel"][theme]) >= 3.0, mark


def test_light_values_are_distinct_because_drawings_are_recoloured_by_them() -> None:
    values = [light for light, _ in COLOURS.values()]
    assert len(set(values)) == len(values)
    assert all(value == value.lower() for value in values)


def test_every_outcome_has_a_mark_and_words_and_no_two_share_one() -> None:
    assert set(OUTCOME_MARKS) == set(OUTCOME_WORDS) == set(OUTCOMES)
    assert len(set(OUTCOME_MARKS.values())) == len(OUTCOMES)
    assert len(set(OUTCOME_LINES.values())) == len(OUTCOME_LINES)
    assert len(set(WIDTH_MARKS)) == len(WIDTH_MARKS)


def test_the_ramp_of_widths_uses_its_ends() -> None:
    assert [width_colour(i, 4) for i in range(4)] == ["w0", "w1", "w2", "w3"]
    assert [width_colour(i, 2) for i in range(2)] == ["w0", "w3"]
    assert width_colour(0, 1) == "w0"
