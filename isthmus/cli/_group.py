"""Verbs with commands of their own, of which one is meant when none is named.

`isthmus partition MODEL` and `isthmus partition profile MODEL` live side by side: the first word is a command
if the group has one of that name, else it belongs to the default command.
"""

from __future__ import annotations

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
            if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
                args = [default, *args]
            return super().parse_args(ctx, args)

    app = typer.Typer(
        cls=Group,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help=help_text,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, function in commands.items():
        app.command(name=name, help=function.__doc__)(function)
    return app
