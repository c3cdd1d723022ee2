"""What makes the documentation site: pages from the code, pictures, and the check of a built site."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import isthmus
from isthmus.cli import VERBS, root_command

ROOT = Path(isthmus.__file__).resolve().parents[1]
SITE = ROOT / "scripts" / "site"


@pytest.fixture(scope="module")
def part() -> Callable[[str], ModuleType]:
    """Return `part(name)`, a module of scripts/site; they import each other by bare names."""

    def load(name: str) -> ModuleType:
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, SITE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    for name in ("drawing", "adopted_pages"):
        load(name)
    return load


def test_the_command_line_has_a_page_a_verb_with_every_flag(part: Callable[[str], ModuleType]) -> None:
    pages = part("cli_pages").cli_pages()
    assert pages.keys() == {f"reference/cli/{name}.md" for name in ("index", *VERBS)}
    root = root_command()
    context = root.make_context("isthmus", [], resilient_parsing=True)
    for verb in VERBS:
        command = root.get_command(context, verb)
        page = pages[f"reference/cli/{verb}.md"]
        for inner in getattr(command, "commands", {"": command}).values():
            for option in (flag for item in inner.params for flag in item.opts if flag.startswith("--")):
                assert f"{option}" in page, f"{verb}: {option}"


def test_help_is_no_markup(part: Callable[[str], ModuleType]) -> None:
    told = part("cli_pages")._prose("Give [x], a|b or <file>; 'isthmus trace FILE' <shows> both_of_them.")
    assert told == r"Give \[x\], a|b or \<file\>; `isthmus trace FILE` \<shows\> both\_of\_them."


def test_every_stored_result_has_a_page_with_its_command(part: Callable[[str], ModuleType]) -> None:
    pages = part("figure_pages").figure_pages(ROOT)
    results = part("figure_pages").stored_results(ROOT)
    assert {f"figures/{name}.md" for name in results} < pages.keys()
    for name, record in results.items():
        page = pages[f"figures/{name}.md"]
        assert "isthmus bench " in page
        assert record["date"][:10] in page
        assert len(page.splitlines()) > 10
    assert not [name for name, page in pages.items() if re.search(r"(?<![\w.])/\w[\w./-]*/data/", page)]


def test_pages_of_the_repository_are_taken_with_their_links_turned(part: Callable[[str], ModuleType]) -> None:
    adopted = part("adopted_pages")
    pages = adopted.adopted_pages(ROOT)
    assert "| 130 | interrupted |" in pages["reference/exit-codes.md"]
    text = "[a](docs/how-to/tls.md), [b](CHANGELOG.md#x), [c](https://example.org), [d](setup.py), [e](#here)"
    turned = adopted.turn_links(
        text,
        source="README.md",
        page="figures/index.md",
        pages={"CHANGELOG.md": "reference/changelog.md"},
    )
    assert turned == (
        "[a](../how-to/tls.md), [b](../reference/changelog.md#x), [c](https://example.org), d, [e](#here)"
    )
    with pytest.raises(ValueError, match="no heading"):
        adopted.section("# Title\n", "Gone")


@pytest.mark.parametrize(
    "file", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "benchmarks/METHODOLOGY.md"]
)
def test_links_of_the_repository_s_own_pages_lead_to_files(file: str) -> None:
    page = ROOT / file
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_event_log_s_page_has_every_field_and_stage(part: Callable[[str], ModuleType]) -> None:
    from isthmus.runtime import events

    page = part("event_page").event_page()
    for kind in (events.RunEvent, events.FrameEvent, events.LinkEvent, events.EndEvent):
        assert f"## `{kind.__struct_config__.tag}`" in page
        assert all(f"| `{name}` |" in page for name in kind.__struct_fields__)
    assert all(f"| {stage.name} |" in page for stage in events.STAGES)


def test_pictures_are_drawn_in_both_dresses_and_pages_use_no_others(
    part: Callable[[str], ModuleType],
) -> None:
    drawn = part("pictures").drawn()
    for name, svg in drawn.items():
        root = ElementTree.fromstring(svg)
        assert root.find("{http://www.w3.org/2000/svg}title") is not None, name
        assert root.find("{http://www.w3.org/2000/svg}desc") is not None, name
    used = {
        found
        for page in (ROOT / "docs").rglob("*.md")
        for found in re.findall(r"pictures/([\w-]+\.svg)", page.read_text())
    }
    assert used == drawn.keys() - {"icon.svg"}
    light, dark = drawn["split-light.svg"], drawn["split-dark.svg"]
    assert light != dark
    assert re.sub(r"#[0-9a-f]{6}", "", light) == re.sub(r"#[0-9a-f]{6}", "", dark)


def test_words_that_do_not_fit_their_box_are_refused(part: Callable[[str], ModuleType]) -> None:
    picture = part("drawing").Picture(100, 50, "A picture", "Of a box.", "light")
    with pytest.raises(ValueError, match="wider than its box"):
        picture.box(0, 0, 40, 20, "far too many words")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script src="https://example.org/a.js"></script>'),
        ("a.html", '<link rel="stylesheet" href="//example.org/a.css">'),
        ("a.html", '<p style="background: url(https://example.org/a.png)">'),
        ("a.html", '<style>@import "https://example.org/a.css";</style>'),
        ("a.html", '<pre class="mermaid">'),
        ("a.css", "@font-face { src: url('https://example.org/a.woff2') }"),
        ("a.svg", '<svg><image href="http://example.org/a.png"/></svg>'),
    ],
)
def test_a_site_that_loads_from_elsewhere_is_found(
    name: str, text: str, part: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    assert [file.name for file, _ in part("offline").outside_requests(tmp_path)] == [name]


def test_a_site_may_link_and_load_its_own(part: Callable[[str], ModuleType], tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="https://example.org">out</a><img src="a.png"><link rel="canonical" href="https://example.org">'
    )
    (tmp_path / "a.css").write_text("p { background: url(a.png) }")
    assert not list(part("offline").outside_requests(tmp_path))


def build(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Build a site as scripts/docs does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", *map(str, arguments)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


needs_mkdocs = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("mkdocs") is None, reason="needs the extra 'docs', which needs Python 3.11"
    ),
]


class TestBuild:
    pytestmark = needs_mkdocs

    def test_the_site_is_built_without_a_warning_and_asks_nobody(self, tmp_path: Path) -> None:
        done = build("--site-dir", tmp_path)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr
        assert (tmp_path / "reference" / "cli" / "train.html").is_file()
        check = [sys.executable, str(SITE / "offline.py"), str(tmp_path)]
        assert subprocess.run(check, check=False, timeout=60).returncode == 0

    @pytest.mark.parametrize("text", ["[gone](gone.md)", "[anchor](index.md#nope)", "[away](/root.md)"])
    def test_a_broken_link_fails_the_build(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "pages").mkdir()
        (tmp_path / "pages" / "index.md").write_text(f"# Title\n\n{text}\n")
        config = tmp_path / "mkdocs.yml"
        config.write_text(
            f"INHERIT: {ROOT / 'mkdocs.yml'}\n"
            "docs_dir: pages\nhooks: []\nnav: [index.md]\nplugins: [search]\n"
        )
        done = build("--config-file", config, "--site-dir", tmp_path / "site")
        assert done.returncode == 1, done.stderr
        assert "WARNING" in done.stderr
