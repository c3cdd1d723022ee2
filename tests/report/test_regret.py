"""Regret: what the run got beside what one could have got who knew the link's future."""

import numpy as np
import pytest

from isthmus.report import load_runs, replay, summarise
from isthmus.runtime.events import read_events
from isthmus.runtime.links import RateTrace


@pytest.fixture(scope="module")
def whole(synthetic_run):
    return summarise(load_runs([synthetic_run.folder])[0])


def test_the_run_lies_between_nothing_and_the_clairvoyant(whole, synthetic_run, synthetic_run_module):
    found = whole.regret
    assert found is not None
    assert (found.frames, found.windows) == (1200, 1)
    assert 0 < found.utility < found.oracle_utility <= synthetic_run_module.TEACHER
    assert found.regret == pytest.approx(1 - found.utility / found.oracle_utility)
    # The worth of a frame is the bundle's accuracy of what answered it.
    table = synthetic_run_module.table()
    worth = 0.0
    for event in synthetic_run.frames:
        if event.outcome == "remote":
            worth += table.record(event.point).utility
        elif event.outcome == "exit":
            worth += table.exits[event.point.width_index].utility
        elif event.outcome == "local":
            worth += table.local.utility
    assert found.utility == pytest.approx(worth / 1200)


def test_shares_and_bins_are_of_all_frames(whole, synthetic_run):
    found = whole.regret
    assert sum(part.frames for part in found.bins) == 1200
    mean = sum(part.frames * part.utility for part in found.bins) / 1200
    assert mean == pytest.approx(found.utility)
    answered = 1 - (synthetic_run.outcomes["late"] + synthetic_run.outcomes["dropped"]) / 1200
    assert sum(mine for _, mine, _ in found.choices) == pytest.approx(answered)
    assert sum(best for _, _, best in found.choices) == pytest.approx(1.0)


def test_a_dead_link_leaves_the_clairvoyant_the_devices_own_answer(synthetic_run):
    (log,) = load_runs([synthetic_run.folder], trace=RateTrace([(1.0, 0.0)], name="dead"))
    found = summarise(log).regret
    assert found is not None
    assert found.link == "trace dead"
    assert found.oracle_utility == pytest.approx(0.978)  # the network that the table says the device holds
    assert [way for way, _, best in found.choices if best] == ["device"]


def test_a_link_without_limit_lets_it_send_every_frame_at_the_best_point(synthetic_run, synthetic_run_module):
    (log,) = load_runs([synthetic_run.folder], trace=RateTrace([(1.0, 1e9)], name="wide"))
    table = synthetic_run_module.table()
    best = max(record.utility for record in table.records)
    found = summarise(log).regret
    assert found is not None
    assert found.oracle_utility == pytest.approx(max(best, table.local.utility))


def test_a_trace_that_says_what_was_logged_gives_the_same_regret(whole, synthetic_run):
    shapes = list(read_events(synthetic_run.folder / "link.jsonl"))
    first_s = min(event.captured_s for event in synthetic_run.frames)
    edges_s = [first_s, *(shape.at_s for shape in shapes[1:]), first_s + 60]
    rates = [shape.rate_bytes_per_s for shape in shapes]
    trace = RateTrace(list(zip(np.diff(edges_s), rates, strict=True)), name="same")
    (log,) = load_runs([synthetic_run.folder], trace=trace)
    found = summarise(log).regret
    assert found is not None
    assert found.regret == pytest.approx(whole.regret.regret, abs=1e-3)


def test_of_many_frames_stretches_are_replayed(synthetic_run, monkeypatch, whole):
    monkeypatch.setattr(replay, "_MOST_FRAMES", 400)
    found = summarise(load_runs([synthetic_run.folder])[0]).regret
    assert found is not None
    assert (found.windows, found.frames) == (8, 400)
    assert found.regret == pytest.approx(whole.regret.regret, abs=0.05)


@pytest.mark.parametrize("missing", ["with_bundle", "with_shapes"])
def test_without_table_or_rates_there_is_no_regret(write_synthetic_run, tmp_path, missing):
    run = write_synthetic_run(tmp_path / "run", seconds=3.0, **{missing: False})
    assert summarise(load_runs([run.folder])[0]).regret is None


def test_a_run_without_an_answer_of_the_server_has_no_path_to_learn(write_synthetic_run, tmp_path):
    run = write_synthetic_run(tmp_path / "run", seconds=14.0)
    lines = (run.folder / "events.jsonl").read_text().splitlines(keepends=True)
    alone = "".join(line for line in lines if '"remote_s"' not in line)
    (run.folder / "events.jsonl").write_text(alone)
    assert alone.count('"outcome":"exit"') > 10
    assert summarise(load_runs([run.folder])[0]).regret is None
