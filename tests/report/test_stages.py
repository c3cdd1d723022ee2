"""The stages of many frames are those of `events.STAGES`, frame by frame."""

import itertools
import math

import numpy as np
import pytest

from isthmus.report.breakdown import UNEXPLAINED
from isthmus.report.charts import stage_colours
from isthmus.report.frames import TIMES, FrameDecoder
from isthmus.report.stages import STAGE_NAMES, stage_seconds
from isthmus.report.theme import COLOURS
from isthmus.runtime.events import STAGES, FrameEvent


def test_columns_say_what_the_table_of_stages_says_of_each_frame():
    rng, shape = np.random.default_rng(4), (400, len(TIMES))
    # Every part of a frame is there or not, on its own, and now and then longer than the whole.
    rows = [
        {name: float(seconds) if there else None for name, seconds, there in zip(TIMES, *draws, strict=True)}
        for draws in zip(rng.gamma(1, 0.1, shape), rng.random(shape) < 0.7, strict=True)
    ]
    events = [
        FrameEvent(at_s=1.0, frame=i, captured_s=0.0, outcome="remote", **row) for i, row in enumerate(rows)
    ]
    frames = FrameDecoder().columns(events)
    assert frames is not None
    found = stage_seconds(frames)
    for row, stage in enumerate(STAGES):
        said = [stage.seconds(event) for event in events]
        expected = [math.nan if value is None else value for value in said]
        np.testing.assert_allclose(found[row], expected, err_msg=stage.name)


def test_neighbours_of_one_place_differ_and_every_stage_has_a_colour():
    names = [*STAGE_NAMES, UNEXPLAINED]
    colours = stage_colours(names)
    assert set(colours.values()) <= set(COLOURS)
    places = {stage.name: stage.where for stage in STAGES}
    for one, other in itertools.pairwise(STAGE_NAMES):
        if places[one] == places[other] != "link":
            assert colours[one] != colours[other]


@pytest.mark.parametrize("where", ["device", "link", "server"])
def test_colour_says_where_time_is_spent(where):
    colours = stage_colours(STAGE_NAMES)
    assert all(colours[s.name].startswith(where) for s in STAGES if s.where == where)
