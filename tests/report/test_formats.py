"""Every format says the same figures, whatever the runs' names hold."""

import csv
import io
import json
import sys

import pytest

from isthmus.report import Format, load_runs, summarise, write_report
from isthmus.report.formats import render
from isthmus.report.markdown import table
from isthmus.report.tables import Cell, of
from isthmus.report.theme import light
from isthmus.runtime.errors import MissingExtraError


@pytest.fixture(scope="module")
def two(synthetic_run, write_synthetic_run, tmp_path_factory):
    other = write_synthetic_run(tmp_path_factory.mktemp("formats") / "other", seconds=4.0, with_bundle=False)
    runs = load_runs([synthetic_run.folder, other.folder])
    return runs, [summarise(run) for run in runs]


def test_json_holds_every_figure_of_every_run(two, synthetic_run):
    figures = json.loads(render(*two, Format.JSON))["runs"]
    assert [run["name"] for run in figures] == ["run", "other"]
    assert figures[0]["accounting"]["outcomes"] == synthetic_run.outcomes
    assert figures[0]["regret"]["frames"] == 1200


def test_csv_has_a_row_a_run_and_a_column_a_figure(two, synthetic_run):
    rows = list(csv.DictReader(io.StringIO(render(*two, Format.CSV).decode())))
    assert [row["name"] for row in rows] == ["run", "other"]
    assert int(rows[0]["accounting.outcomes.remote"]) == synthetic_run.outcomes["remote"]
    assert float(rows[0]["latency.p50_s"]) == two[1][0].latency.p50_s
    assert rows[1]["regret.regret"] == ""


def test_markdown_has_the_account_the_comparison_and_the_tables(two, synthetic_run):
    text = render(*two, Format.MARKDOWN).decode()
    assert text.startswith("# Isthmus: 2 runs")
    assert "| Figure | run | other |" in text
    assert f"1200 captured = {synthetic_run.outcomes['remote']} remote" in text
    assert "### Where the time of a frame goes" in text


def test_markdown_of_hostile_names_stays_a_table():
    text = table(of("a|b", ["one\ntwo", "three"], [["<script>|`x`", Cell("5", 0.5, "lowest")]]))
    lines = text.splitlines()
    assert lines[2] == "| one two | three |"
    assert lines[4] == "| \\<script\\>\\|\\`x\\` | 5 (lowest) |"


def test_png_shows_the_figures_in_the_themes_colours(two):
    pytest.importorskip("matplotlib", reason="pictures need the extra 'plot'")
    from PIL import Image, ImageColor

    sheet = Image.open(io.BytesIO(render(two[0][1:], two[1][1:], Format.PNG))).convert("RGB")
    assert sheet.width > 1800
    assert sheet.height > 4 * 600  # timeline, tradeoff, distribution and stages, at two pixels a pixel
    drawn = {colour for _, colour in sheet.getcolors(maxcolors=1 << 24)}
    for name in ("remote", "deadline", "estimate", "link", "ink"):
        assert ImageColor.getrgb(light(name)) in drawn, name


@pytest.mark.parametrize("form", [Format.MARKDOWN, Format.JSON, Format.CSV])
def test_text_needs_no_matplotlib(two, form, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_report(*two, tmp_path / "report", form=form)
    assert (tmp_path / "report").stat().st_size > 500
    with pytest.raises(MissingExtraError, match="plot"):
        write_report(*two, tmp_path / "report", form=Format.PNG)
    assert not list(tmp_path.glob("*.partial"))
