"""Pages of the command line, made from the commands themselves: they cannot say what the code does not.

A page a verb; usage, help and every flag are asked of the parser that will read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from isthmus.cli import VERBS, root_command

FOLDER = "reference/cli"


def cli_pages() -> dict[str, str]:
    """Return the pages by their place in the site, the overview first."""
    root = root_command()
    context = root.make_context("isthmus", [], resilient_parsing=True)
    pages = {f"{FOLDER}/index.md": _overview(root, context)}
    for verb in VERBS:
        command = root.get_command(context, verb)
        pages[f"{FOLDER}/{verb}.md"] = "\n".join(_page(command, f"isthmus {verb}"))
    return pages


def cli_nav() -> list[Any]:
    """Return the section's entries: the overview, then the verbs."""
    return [f"{FOLDER}/index.md", *({verb: f"{FOLDER}/{verb}.md"} for verb in VERBS)]


def _overview(root: Any, context: Any) -> str:
    rows = [f"| [`isthmus {verb}`]({verb}.md) | {_cell(line)} |" for verb, line in VERBS.items()]
    return "\n".join(
        [
            "# Command line",
            "",
            "Made from the commands' own parsers when this site is built. Every command takes `--json` "
            "(the result, for programs), `--quiet` and `--help`: [the terminal](../../how-to/terminal.md).",
            "",
            "| command | what it does |",
            "|---|---|",
            *rows,
            "",
            *_flags(root, context),
        ]
    )


def _page(command: Any, words: str) -> Iterator[str]:
    yield f"# {words}"
    yield ""
    if not hasattr(command, "commands"):
        yield from _command(command, words)
        return
    yield from (_prose(command.help or ""), "")
    for name, inner in command.commands.items():
        yield f"## {words} {name}"
        yield ""
        yield from _command(inner, f"{words} {name}")


def _command(command: Any, words: str) -> Iterator[str]:
    context = typer.main.get_command(_empty()).make_context("isthmus", [], resilient_parsing=True)
    context.info_name, context.command = words, command
    pieces = [
        re.sub(r"\{(\w+)\}", lambda name: name[1].upper(), piece)
        for piece in command.collect_usage_pieces(context)
    ]
    yield from ("```text", " ".join([words, *pieces]), "```", "")
    yield from (_prose(command.help or ""), "")
    yield from _flags(command, context)


def _flags(command: Any, context: Any) -> Iterator[str]:
    records = [(item, item.get_help_record(context)) for item in command.get_params(context)]
    for title, kind in (("argument", "argument"), ("option", "option")):
        rows = [record for item, record in records if record and item.param_type_name == kind]
        if rows:
            yield from (f"| {title} | meaning |", "|---|---|")
            yield from (f"| {_code(name)} | {_cell(help_text)} |" for name, help_text in rows)
            yield ""


def _empty() -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(lambda: None)
    return app


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _cell(text: str) -> str:
    return _prose(" ".join(text.split())).replace("|", "\\|")


def _prose(text: str) -> str:
    """Return help as Markdown: what would read as markup is escaped, commands in quotes become code."""
    escaped = re.sub(r"([<>*_\[\]{}])", r"\\\1", text)
    return re.sub(r"'(isthmus [^']+)'", lambda found: f"`{_plain(found[1])}`", escaped)


def _plain(text: str) -> str:
    return re.sub(r"\\([<>*_\[\]{}])", r"\1", text)
