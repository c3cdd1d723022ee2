"""The flags of `isthmus train`, made from the table of its settings: one name for flag, variable and key."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.cli._common import JsonFlag
from isthmus.models.train_options import OPTIONS, Option

# Text on the command line; what a text becomes is the table's affair, so that every layer is read alike.
_TYPES: dict[str, Any] = {"whole": int, "number": float, "flag": bool}
_OWN_NAMES = {"keep_teacher": "--keep-teacher/--no-teacher"}

# What no recipe says.
_EXTRAS: dict[str, tuple[Any, Any]] = {
    "out": (Annotated[Path | None, typer.Option("--out", help="Directory of the run.")], None),
    "config": (Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")], None),
    "show_config": (
        Annotated[bool, typer.Option("--show-config", help="Print every setting as TOML and end.")],
        False,
    ),
    "resume": (Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")], False),
    "as_json": (JsonFlag, False),
}


def with_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, which takes keyword arguments, with a signature that has a flag per setting."""
    kinds = {name: (_annotation(name, option), None) for name, option in OPTIONS.items()} | _EXTRAS
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in kinds.items()
    ]
    function.__annotations__ = {name: kind for name, (kind, _) in kinds.items()}
    setattr(function, "__signature__", inspect.Signature(parameters))  # noqa: B010
    return function


def _annotation(name: str, option: Option) -> Any:
    help_text = option.help
    if option.choices:
        help_text += f" One of {', '.join(option.choices)}."
    if option.default is not None and not isinstance(option.default, bool):
        help_text += f" [default: {option.default}]"
    flag = _OWN_NAMES.get(name) or f"--{name.replace('_', '-')}"
    if option.kind == "flag" and name not in _OWN_NAMES:
        flag += f"/--no-{name.replace('_', '-')}"
    bounded = option.least is not None and option.kind in ("whole", "number")
    least = option.least if bounded else None
    kind = _TYPES.get(option.kind, str)
    return Annotated[kind | None, typer.Option(flag, help=help_text, min=least)]
