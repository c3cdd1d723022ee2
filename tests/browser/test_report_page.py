"""A report in a real browser."""

import pytest

from isthmus.report import load_runs, summarise, write_report

pytest.importorskip("matplotlib", reason="needs the extra 'plot'")


@pytest.fixture(scope="module")
def report(synthetic_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    runs = load_runs([synthetic_run.folder])
    write_report(runs, [summarise(run) for run in runs], path)
    return path.as_uri()


@pytest.mark.parametrize(("size", "scheme"), [("wide", "light"), ("wide", "dark"), ("phone", "light")])
def test_it_opens_shows_the_outage_and_fits(opened, report, screenshots, size, scheme):
    watched = opened(report, size=size, scheme=scheme)
    page = watched.page
    page.wait_for_selector("svg")
    assert "outage" in page.inner_text("main").lower()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(253, 253, 252)") == (scheme == "light")
    assert watched.fits()
    page.screenshot(path=screenshots / f"report-{size}-{scheme}.png", full_page=True)
    assert watched.errors == []


def test_what_scrolls_can_be_reached_with_the_keyboard(opened, report):
    watched = opened(report, size="phone")
    beyond_reach = watched.page.evaluate(
        "[...document.querySelectorAll('.scroll')]"
        ".filter((box) => box.scrollWidth > box.clientWidth + 1 && box.tabIndex < 0).length"
    )
    assert beyond_reach == 0
    order = watched.focus_order(8)
    assert len(set(order) - {"BODY#"}) >= 1
    assert watched.errors == []
