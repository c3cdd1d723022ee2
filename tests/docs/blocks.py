"""Read a Markdown page's blocks and what its comments say of them; `conftest.py` holds the convention."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LANGUAGES = ("bash", "python", "toml")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n`]*$")
_COMMENT = re.compile(r"^ *<!-- test: (?P<said>.*?) -->\s*$")


class PageError(Exception):
    """A page breaks the convention."""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: The file.
        line: Of its fence.
        language: One of `LANGUAGES`.
        text: Without the fences and their indentation.
        given: What the page is given from here on.
        exit_code: Of the last command.
        background: Its commands are services.
        file: The text becomes this file instead of being run.
        slow, not_run: The reason, or None.
    """

    page: Path
    line: int
    language: str
    text: str
    given: tuple[str, ...] = ()
    exit_code: int = 0
    background: bool = False
    file: str | None = None
    slow: str | None = None
    not_run: str | None = None

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page.name}:{self.line}"

    def commands(self) -> list[str]:
        """Return its commands: lines joined where they end in a backslash, comments and results left out."""
        joined = re.sub(r"\s*\\\n\s*", " ", self.text)
        lines = [line.strip() for line in joined.splitlines()]
        if any(line.startswith("$ ") for line in lines):  # a transcript: what has no prompt was printed
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]


@dataclass
class _Said:
    words: dict[str, object] = field(default_factory=dict)

    def take(self, text: str, place: str) -> None:
        for directive in (part.strip() for part in text.split(";")):
            name, _, rest = directive.partition(" ")
            if directive.startswith(("not run:", "slow:")):
                key, _, reason = directive.partition(":")
                if not reason.strip():
                    raise PageError(f"{place}: {key!r} needs a reason")
                self.words["not_run" if key == "not run" else "slow"] = reason.strip()
            elif name == "given":
                self.words["given"] = tuple(one.strip() for one in rest.split(","))
            elif name == "exit":
                self.words["exit_code"] = int(rest)
            elif name == "file":
                self.words["file"] = rest
            elif directive == "background":
                self.words["background"] = True
            else:
                raise PageError(f"{place}: {directive!r} is no directive of the convention")


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of `page` in order.

    Raises:
        PageError: If a comment has a word that the convention lacks, or belongs to no block.
    """
    return list(_blocks(page, page.read_text(encoding="utf-8").splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    said, index = _Said(), 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if comment := _COMMENT.match(line):
            said.take(comment["said"], f"{page.name}:{index}")
        elif fence := _FENCE.match(line):
            start = index
            while lines[index].strip() != "```":
                index += 1
            text = "\n".join(one.removeprefix(fence["indent"]) for one in lines[start:index]) + "\n"
            index += 1
            language = fence["language"] or ("bash" if _has_commands(text) else "")
            if language in LANGUAGES:
                yield Block(page=page, line=start, language=language, text=text, **said.words)  # type: ignore[arg-type]
                said = _Said()
        elif line.strip() and said.words:
            raise PageError(f"{page.name}:{index}: a comment for tests stands before no block")


def _has_commands(text: str) -> bool:
    return re.search(r"^(\$ )?(isthmus|scripts/\S+|pip install) ", text + " ", re.MULTILINE) is not None
