"""Every command block of README.md and docs/: run where it can be, parsed always."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import isthmus

ROOT = Path(isthmus.__file__).resolve().parents[1]
# Pages whose blocks run unless they say otherwise, and pages of records, whose commands are parsed alone.
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
RECORDS = sorted(
    [
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks" / "METHODOLOGY.md",
        *(ROOT / "benchmarks" / "results").glob("*.md"),
    ]
)

Givens = dict[str, Callable[[Path], object]]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def played(
    page: Path, blocks: ModuleType, runner: ModuleType, givens: Givens, folder: Path, *, slow: bool
) -> int:
    """Run the blocks of `page`, the slow ones only if `slow`; return how many were run."""
    count = 0
    with runner.Page(folder) as stage:
        for block in blocks.read_blocks(page):
            if block.not_run is None:
                for given in block.given:
                    if not (folder / given).exists():  # unless slow blocks before it have made it
                        givens[given](folder / given)
            if block.not_run is not None or (block.slow is not None and not slow):
                continue
            stage.play(block)
            count += 1
    return count


@pytest.mark.parametrize("page", PAGES + RECORDS, ids=name)
def test_every_command_is_known_to_the_command_line(
    page: Path, blocks: ModuleType, runner: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in blocks.read_blocks(page):
        if block.language == "bash":
            for command in block.commands():
                runner.parse(command, block)
        elif block.language == "python":
            compile(block.text, block.place, "exec")


def pages_with(slow: bool) -> Iterator[Any]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if ("<!-- test: slow" in text or "; slow" in text) if slow else "```" in text:
            yield pytest.param(page, id=name(page))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [*pages_with(slow=False)])
def test_the_quick_blocks_of_a_page_run(
    page: Path, blocks: ModuleType, runner: ModuleType, givens: Givens, tmp_path: Path
) -> None:
    played(page, blocks, runner, givens, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", [*pages_with(slow=True)])
def test_all_blocks_of_a_page_run(
    page: Path, blocks: ModuleType, runner: ModuleType, givens: Givens, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="needs the extra 'train'")
    assert played(page, blocks, runner, givens, tmp_path, slow=True) > 0


def page_of(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text)
    return page


def test_a_block_is_read_with_what_its_comment_says(blocks: ModuleType, tmp_path: Path) -> None:
    text = "words\n\n<!-- test: given bundle, run; exit 7 -->\n"
    text += "```bash\nisthmus doctor \\\n    bundle # why\n```\n"
    (block,) = blocks.read_blocks(page_of(tmp_path, text + "\n```text\nisthmus fly\n```\n"))
    assert block.given == ("bundle", "run")
    assert block.exit_code == 7
    assert block.commands() == ["isthmus doctor bundle # why"]
    assert block.place == "page.md:4"


def test_of_a_transcript_only_what_has_a_prompt_is_a_command(blocks: ModuleType, tmp_path: Path) -> None:
    (block,) = blocks.read_blocks(page_of(tmp_path, "```\n$ isthmus doctor\nhost  a machine\n```\n"))
    assert block.commands() == ["isthmus doctor"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- test: not run: -->\n```bash\nls\n```\n", "needs a reason"),
        ("<!-- test: maybe -->\n```bash\nls\n```\n", "no directive"),
        ("<!-- test: exit 3 -->\n\nwords\n", "stands before no block"),
    ],
)
def test_a_page_that_breaks_the_convention_is_refused(
    text: str, message: str, blocks: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(blocks.PageError, match=message):
        blocks.read_blocks(page_of(tmp_path, text))


@pytest.mark.parametrize(
    "command",
    [
        "isthmus fly",
        "isthmus report --wings events.jsonl",
        "isthmus simulate fleet --devices many",
        "cat x | isthmus report --wings",
        "sudo isthmus agent install-service",
        "isthmus bench levitation",
        "pip install 'isthmus[wings]'",
        "scripts/fly",
    ],
)
def test_parsing_finds_what_is_wrong(
    command: str, blocks: ModuleType, runner: ModuleType, tmp_path: Path
) -> None:
    (block,) = blocks.read_blocks(page_of(tmp_path, f"```bash\n{command}\n```\n"))
    with pytest.raises(AssertionError, match=r"page\.md:1"):
        runner.parse(command, block)


def test_a_command_that_fails_fails_its_page(
    blocks: ModuleType, runner: ModuleType, givens: Givens, tmp_path: Path
) -> None:
    page = page_of(tmp_path, "```bash\nisthmus report no-such-run\n```\n")
    with pytest.raises(AssertionError, match="exit code 3"):
        played(page, blocks, runner, givens, tmp_path, slow=False)
    page = page_of(tmp_path, "<!-- test: exit 3 -->\n```bash\nisthmus report no-such-run\n```\n")
    assert played(page, blocks, runner, givens, tmp_path, slow=False) == 1


def test_files_programs_and_shell_lines(
    blocks: ModuleType, runner: ModuleType, givens: Givens, tmp_path: Path
) -> None:
    text = "<!-- test: file a.toml -->\n```toml\nport = 8001\n```\n"
    text += '```python\nprint(open("a.toml").read())\n```\n'
    page = page_of(tmp_path, text + "```bash\ngrep port a.toml > found\n```\n")
    assert played(page, blocks, runner, givens, tmp_path, slow=False) == 3
    assert re.fullmatch(r"port = (?!8001)\d+\n", (tmp_path / "found").read_text())
