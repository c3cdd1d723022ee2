"""Verbs with commands of their own, of which one is meant when none is named.

`isthmus partition MODEL` and `isthmus partition profile MODEL` live side by side: the first word is a command
if the group has one of that name, else it belongs to the default command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer
import typer.core


def verb_group(default: str, commands: dict[str, Callable[..., Any]], help_text: str) -> typer.Typer:
    """Return a group of `commands` in which `default` may be left out.

    Args:
        default: The command that is meant when the first word names none.
        commands: By name; the first line of a docstring is the short help.
        help_text: Of the whole group.
    """

    class Group(typer.core.TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> Any:
            # While a shell completes the first word (resilient parsing, no words yet) none is meant.
            named = args[0] in (*self.commands, "-h", "--help") if args else ctx.resilient_parsing
            return super().parse_args(ctx, args if named else [default, *args])

        def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
            meant = self.commands[default]
            inner = meant.make_context(default, [], parent=ctx, resilient_parsing=True)
            return [*super().shell_complete(ctx, incomplete), *meant.shell_complete(inner, incomplete)]

    app = typer.Typer(
        cls=Group,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help=help_text,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, function in commands.items():
        whole = inspect.getdoc(function) or ""
        # Left to itself, click cuts the line in the group's help off after 45 characters.
        short = " ".join(whole.partition("\n\n")[0].split())
        app.command(name=name, help=whole, short_help=short)(function)
    return app
