"""The timeline of a short run shows every frame; that of a long one shows stretches, and hides no extreme."""

import dataclasses

import numpy as np
import pytest

from isthmus.report import load, load_runs, summarise, tables
from isthmus.report.html import render_page
from isthmus.report.markdown import render_markdown
from isthmus.report.svg import drawing_style
from isthmus.report.timeline import _thinned, draw_timeline, time_axis
from isthmus.runtime.events import DeadlineEvent, EventLog

pytest.importorskip("matplotlib", reason="pictures need the extra 'plot'")


def painted(log):
    with drawing_style():
        drawing = draw_timeline(log, summarise(log), key="t")
        return drawing, drawing.paint(920.0)


def test_a_long_run_is_drawn_from_its_stretches(synthetic_run, monkeypatch):
    monkeypatch.setattr(load, "KEPT_FRAMES", 100)
    (log,) = load_runs([synthetic_run.folder])
    drawing, canvas = painted(log)
    assert "Too many frames for a mark each" in drawing.caption
    assert [entry.text for entry in drawing.legend][-2:] == ["median latency", "to 90 % and, paler, to 99 %"]
    # The panels say what those of single frames say: half of the frames of a stretch lie below its median.
    median = next(
        p
        for p in canvas.panels[2].patches
        if p.get_edgecolor()[:3] == pytest.approx((0.114, 0.137, 0.161), abs=0.01)
    )
    values, edges, _ = median.get_data()
    latency_s = log.tally.quantiles().at((0.5,))[0]
    assert np.nanmedian(values) / 1e3 == pytest.approx(latency_s, rel=0.1)
    assert edges[0] == pytest.approx(log.tally.moments.start_s - log.start_s, abs=0.1)


def test_outcome_shares_are_the_same_from_frames_and_from_stretches(synthetic_run, monkeypatch):
    (short,) = load_runs([synthetic_run.folder])
    monkeypatch.setattr(load, "KEPT_FRAMES", 100)
    (long,) = load_runs([synthetic_run.folder])
    for log in (short, long):
        _, canvas = painted(log)
        heights = np.array(
            [bar.get_height() for bar in canvas.panels[3].patches if hasattr(bar, "get_height")]
        )
        bars = len({round(bar.get_x(), 6) for bar in canvas.panels[3].patches if bar.get_y() == 0})
        assert heights.sum() == pytest.approx(bars, rel=0.05)


def test_a_changed_deadline_is_a_step(synthetic_run, tmp_path):
    lines = (synthetic_run.folder / "events.jsonl").read_bytes()
    file = tmp_path / "events.jsonl"
    log = EventLog(file)
    log.write(DeadlineEvent(at_s=5010.0, deadline_s=0.3))
    log.close()
    file.write_bytes(lines + file.read_bytes())
    (run,) = load_runs([file])
    at_s, deadlines_s = run.deadline_steps()
    assert deadlines_s.tolist() == [0.09, 0.3]
    assert run.deadline_at(np.array([5009.9, 5010.1])).tolist() == [0.09, 0.3]
    assert at_s[1] == 5010.0
    drawing, canvas = painted(run)
    texts = [entry.text for entry in drawing.legend]
    assert texts[texts.index("deadline, 90 ms at first") + 1] == "the deadline was changed"
    assert "Deadline changed to 300 ms at 10.2 s." in drawing.alt
    (change,) = summarise(run).deadline_changes
    assert (change.at_s, change.before_s, change.deadline_s) == (pytest.approx(10.2), 0.09, 0.3)
    # The line of the deadline steps, and the change stands in every panel.
    step = next(p for p in canvas.panels[2].patches if p.get_linestyle() == (0, (5, 3)))
    assert step.get_data().values.tolist() == [90.0, 300.0]
    assert step.get_data().edges[1] == pytest.approx(10.2)
    for panel in canvas.panels:
        marks = [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == ":"]
        assert marks == [pytest.approx(10.2)]
    for render in (render_page, render_markdown):
        assert "Changes of the deadline" in render([run], [summarise(run)])


def test_a_deadline_set_to_what_it_was_is_no_change(synthetic_run, tmp_path):
    file = tmp_path / "events.jsonl"
    lines = (synthetic_run.folder / "events.jsonl").read_bytes()
    log = EventLog(file)
    log.write(DeadlineEvent(at_s=5010.0, deadline_s=0.09))
    log.close()
    file.write_bytes(lines + file.read_bytes())
    (run,) = load_runs([file])
    assert summarise(run).deadline_changes == ()
    assert tables.deadline_changes(summarise(run)) is None
    drawing, canvas = painted(run)
    assert "the deadline was changed" not in [entry.text for entry in drawing.legend]
    assert not [line for panel in canvas.panels for line in panel.lines if line.get_linestyle() == ":"]


@pytest.mark.parametrize(("hours", "unit"), [(0.01, "seconds"), (0.5, "minutes"), (5, "hours")])
def test_the_axis_counts_in_what_people_count_in(synthetic_run, hours, unit):
    (log,) = load_runs([synthetic_run.folder])
    axis = time_axis(dataclasses.replace(log, end_s=log.start_s + 3600 * hours))
    assert axis.unit == unit
    assert axis.end * axis.unit_s == pytest.approx(3600 * hours)


def test_thinning_keeps_every_extreme():
    values = np.random.default_rng(0).normal(size=20_000)
    values[1234], values[17_000], values[5000:5100] = 50.0, -50.0, np.nan
    at_s, thinned = _thinned(np.arange(20_000.0), values)
    assert len(thinned) <= 1_600
    assert (np.nanmax(thinned), np.nanmin(thinned)) == (50.0, -50.0)
    assert np.isnan(thinned).any()
    assert (np.diff(at_s) >= 0).all()
