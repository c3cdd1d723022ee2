"""Runs side by side: each figure says which run it is of, and only what differs stands out."""

import dataclasses

import pytest

from isthmus.report import load_runs, summarise
from isthmus.report.comparison import comparison_table, draw_latencies, draw_worth, run_looks
from isthmus.report.tables import DASH, Cell


@pytest.fixture(scope="module")
def pair(synthetic_run, write_synthetic_run, tmp_path_factory):
    other = write_synthetic_run(tmp_path_factory.mktemp("pair") / "other", seconds=4.0, with_bundle=False)
    runs = load_runs([synthetic_run.folder, other.folder])
    return runs, [summarise(run) for run in runs]


def row(table, heading):
    return next(row for row in table.rows if row[0] == heading)


def test_one_column_a_run_one_row_a_figure(pair):
    table = comparison_table(pair[1])
    assert [column.heading for column in table.columns] == ["Figure", "run", "other"]
    assert row(table, "Frames")[1:] == ("1200", "120")
    assert row(table, "Deadline")[1:] == ("90 ms", "150 ms")
    assert str(row(table, "Regret")[2]) == DASH
    assert not any(cells[0] == "Energy per frame" for cells in table.rows)


def test_only_figures_that_differ_have_a_word(pair):
    first = pair[1][0]
    same = comparison_table([first, first])
    assert not any(isinstance(cell, Cell) and cell.word for cells in same.rows for cell in cells)
    assert first.in_time is not None
    better = dataclasses.replace(first, in_time=dataclasses.replace(first.in_time, value=1.0))
    cells = row(comparison_table([first, better]), "In time")[1:]
    assert [cell.word for cell in cells] == ["", "highest"]


def test_bars_compare_what_has_no_natural_end(pair):
    table = comparison_table(pair[1])
    assert all(cell.share is None for cell in row(table, "Accuracy")[1:])
    shares = [cell.share for cell in row(table, "Mean payload")[1:]]
    assert max(shares) == 1.0
    assert all(0 < share <= 1 for share in shares)


def test_no_two_of_twenty_runs_look_alike():
    assert len(set(run_looks(20))) == 20


def test_figures_name_every_run_in_words_too(pair):
    runs, summaries = pair
    latencies, worth = draw_latencies(runs, summaries, key="l"), draw_worth(summaries, key="w")
    assert latencies is not None
    assert worth is not None
    for summary in summaries:
        assert summary.name in latencies.alt
        assert summary.name in worth.alt
    assert draw_worth(summaries[:1], key="w") is None
