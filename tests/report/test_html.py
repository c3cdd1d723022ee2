import re
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from isthmus.report import RunLog, Summary, load_runs, summarise, write_report
from isthmus.report.charts import draw_latency
from isthmus.report.html import render_page
from isthmus.report.svg import drawing_style
from isthmus.report.theme import COLOURS
from isthmus.report.timeline import draw_timeline
from isthmus.runtime.errors import InputError, MissingExtraError

pytest.importorskip("matplotlib", reason="reports need the extra 'plot'")

VOID = {"meta", "link", "br", "use", "path", "rect", "circle", "image"}


class Outline(HTMLParser):
    """Collects what tests ask about a page, and fails on tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).replace("\u00a0", " ").split())


def both(paths: list[Path]) -> tuple[tuple[RunLog, ...], list[Summary]]:
    runs = load_runs(paths)
    return runs, [summarise(run) for run in runs]


def page_of(paths: list[Path]) -> str:
    return render_page(*both(paths))


@pytest.fixture(scope="module")
def page(synthetic_run: Any) -> str:
    return page_of([synthetic_run.folder])


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def test_the_page_asks_for_nothing_from_outside(page: str, outline: Outline) -> None:
    assert not re.findall(r"@import|url\((?!#)", page)
    assert outline.tags["script"] == outline.tags["iframe"] == outline.tags["img"] == 0
    for _, attributes in outline.attributes:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), value
    policies = [
        a.get("content") for _, a in outline.attributes if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_the_page_has_both_themes_and_two_widths(page: str, outline: Outline) -> None:
    assert "prefers-color-scheme:dark" in page
    assert "max-width: 640px" in page
    assert f"--remote:{COLOURS['remote'][1]}" in page
    classes = Counter(attributes.get("class") for _, attributes in outline.attributes)
    assert classes["wide"] == classes["narrow"] == outline.tags["figure"] == 5


def test_drawings_use_the_themes_colours_only(page: str) -> None:
    drawings = "".join(re.findall(r"<svg xmlns.*?</svg>", page, flags=re.DOTALL))
    assert "var(--remote)" in drawings
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawings)) <= {"#000000"}


def test_every_id_is_unique_and_every_reference_has_one(page: str, outline: Outline) -> None:
    ids = Counter(attributes["id"] for _, attributes in outline.attributes if attributes.get("id"))
    assert ids.most_common(1)[0][1] == 1
    references = set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page))
    assert references
    assert references <= set(ids)


def test_figures_have_text_alternatives_and_tables_have_scopes(outline: Outline) -> None:
    drawings = [
        attributes for tag, attributes in outline.attributes if tag == "svg" and attributes.get("role")
    ]
    assert len(drawings) == 10
    assert all(len(drawing["aria-label"] or "") > 60 for drawing in drawings)
    heads = [attributes for tag, attributes in outline.attributes if tag == "th"]
    assert heads
    assert all(head.get("scope") in ("col", "row") for head in heads)
    assert outline.tags["caption"] == outline.tags["table"]
    assert ("html", {"lang": "en"}) in outline.attributes


def test_the_page_states_the_account_and_the_definitions(synthetic_run: Any, outline: Outline) -> None:
    terms = " + ".join(f"{count} {name}" for name, count in synthetic_run.outcomes.items())
    assert f"1200 captured = {terms}" in outline.words
    assert "no outage of the emulated link lies within 1 s of its capture" in outline.words
    assert "expected-utility" in outline.words
    assert "What is missing" not in outline.words


def test_one_log_gives_one_drawing_to_the_byte(synthetic_run: Any, page: str) -> None:
    (log,) = load_runs([synthetic_run.folder])
    with drawing_style():
        again = draw_latency(log, summarise(log), key="run0-latency")
        assert again is not None
        assert again.wide() in page
        assert again.narrow() in page


def test_a_log_from_elsewhere_cannot_write_into_the_page(
    write_synthetic_run: Callable[..., Any], tmp_path: Path
) -> None:
    text = (write_synthetic_run(tmp_path / "run", seconds=2.0).folder / "events.jsonl").read_text()
    hostile = "<script>alert(1)</script>&quot;'"
    text = text.replace("npz:digits-test.npz", hostile).replace("send:", hostile)
    (tmp_path / "events.jsonl").write_text(text)
    outline = Outline(page_of([tmp_path / "events.jsonl"]))
    assert outline.tags["script"] == 0
    assert outline.words.count("<script>alert(#)</script>") >= 1
    assert outline.words.count(hostile) >= 2


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (("with_end", "with_links"), ("The log has no end event", "The log has no link events")),
        (
            ("with_shapes", "with_bundle", "with_truth"),
            (
                "No log of an emulated link",
                "No bundle: accuracy against bytes shows this run's frames only",
                "The source has no labels, so accuracy is unknown",
            ),
        ),
    ],
)
def test_missing_parts_are_told_and_the_rest_reported(
    write_synthetic_run: Callable[..., Any], tmp_path: Path, missing: tuple[str, ...], told: tuple[str, ...]
) -> None:
    run = write_synthetic_run(tmp_path / "run", seconds=4.0, **dict.fromkeys(missing, False))
    words = Outline(page_of([run.folder])).words
    assert "120 captured" in words
    for sentence in told:
        assert sentence in words


def test_a_log_of_one_frame_is_still_a_page(write_synthetic_run: Callable[..., Any], tmp_path: Path) -> None:
    run = write_synthetic_run(tmp_path / "run", seconds=1 / 30, with_links=False, with_shapes=False)
    assert "1 captured = 1 remote" in Outline(page_of([run.folder])).words


def test_an_agent_that_never_reached_a_server_is_a_page(
    write_synthetic_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = write_synthetic_run(tmp_path / "run", seconds=3.0, disconnected_s=(0.0, 99.0), with_bundle=False)
    words = Outline(page_of([run.folder])).words
    assert "The server was unreachable" in words
    assert "no connection to the server" in words


def test_several_runs_stand_side_by_side(
    synthetic_run: Any, tmp_path: Path, write_synthetic_run: Any
) -> None:
    other = write_synthetic_run(tmp_path / "other", seconds=4.0, with_bundle=False)
    outline = Outline(page_of([synthetic_run.folder, other.folder]))
    assert outline.tags["article"] == 2
    assert "Runs side by side" in outline.words
    ids = Counter(attributes["id"] for _, attributes in outline.attributes if attributes.get("id"))
    assert ids.most_common(1)[0][1] == 1


def test_a_long_run_is_drawn_as_an_image_and_stays_small(
    write_synthetic_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = write_synthetic_run(tmp_path / "run", seconds=40.0, fps=120.0, with_bundle=False)
    (log,) = load_runs([run.folder])
    with drawing_style():
        drawing = draw_timeline(log, summarise(log), key="t")
        wide, narrow = drawing.wide(), drawing.narrow()
    assert "data:image/png;base64," in wide
    assert len(wide) + len(narrow) < 1_000_000


def test_a_page_that_cannot_be_written_names_the_file(synthetic_run: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/report\.html: its folder does not exist; .* --out file"):
        write_report(*both([synthetic_run.folder]), tmp_path / "nowhere" / "report.html")


def test_without_matplotlib_the_extra_is_named(synthetic_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'isthmus\[plot\]'"):
        page_of([synthetic_run.folder])
