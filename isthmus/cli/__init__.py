"""The command line: one file per verb, each loaded only when it is used.

Decides how errors end a process: a deliberate error is one line and its documented exit code, anything else
is our bug and keeps its traceback. Decides too what every command takes besides its own flags: `-h`,
`--quiet`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core

from isthmus.cli._common import console, errors
from isthmus.runtime.errors import IsthmusError, MissingExtraError
from isthmus.runtime.grpc_engine import choose_grpc_engine

# verb → one line of help. A verb's module holds `def command(...)` or, for a group, `app` (see `_group`).
VERBS: dict[str, str] = {
    "demo": "Train, export, serve and run everything once over a varying link; write a report.",
    "partition": "Find the best cut of a network for a device, a server and a link, or say not to split.",
    "train": "Train a slimmable bottleneck at a cut, by distillation.",
    "export": "Export a trained bottleneck as a bundle that both ends load.",
    "eval": "Measure accuracy and bytes of a bundle's operating points, answered by the real server.",
    "serve": "Serve the tails of bundles over gRPC (Open Inference Protocol v2).",
    "certs": "Make and revoke certificates of servers and devices, with a private authority.",
    "agent": "Run a bundle's heads on this device and stream latents to a server.",
    "profile": "Measure where a frame's time and joules go on this device, per operating point.",
    "trace": "Look at the rate of a link over time, convert it, make one, draw it.",
    "link": "Emulate a link between real processes: a shaping proxy, or a network namespace.",
    "simulate": "Run policies over traces on a virtual clock, or a fleet of devices and its servers.",
    "report": "Write a report from the event logs of a run.",
    "dashboard": "Show live agents and servers in a browser.",
    "bench": "Run one benchmark of benchmarks/ and store its figures.",
    "doctor": "Check this machine and, if given, a bundle.",
}

# Which extra brings a module that a verb may miss.
_EXTRA_OF = {
    "torch": "train",
    "sklearn": "train",
    "onnxscript": "train",
    "filelock": "train",
    "onnx": "partition",
    "matplotlib": "plot",
    "grpc_reflection": "server",
    "cryptography": "certs",
    "starlette": "dashboard",
    "uvicorn": "dashboard",
    "prometheus_client": "dashboard",
}


# Newer Typer brings its own copy of click, older Typer imports the package: reach it through Typer's names
# alone.
_UsageError: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


def _be_quiet(value: bool) -> None:
    if value:  # a verb within another one (`demo`) must not undo what the outer one was told
        console.quiet = True


def _shared_options(
    _quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            callback=_be_quiet,
            expose_value=False,
            help="No progress and no notes on standard error: only results, and errors.",
        ),
    ] = False,
) -> None:
    pass


def _with_shared(command: Any) -> Any:
    """Return a verb's click command with what every command takes: `-h`, and `--quiet` unless it has one."""
    command.context_settings.setdefault("help_option_names", ["-h", "--help"])
    for inner in getattr(command, "commands", {}).values():
        _with_shared(inner)
    if not hasattr(command, "commands"):
        holder = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        holder.command()(_shared_options)
        taken = {flag for parameter in command.params for flag in parameter.opts}
        command.params += [
            option for option in typer.main.get_command(holder).params if not taken.intersection(option.opts)
        ]
    return command


class _LazyGroup(typer.core.TyperGroup):
    """A command group that imports a verb's module when that verb is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"isthmus.cli.{cmd_name}")
        if hasattr(module, "app"):
            return _with_shared(typer.main.get_command(module.app))
        verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        verb.command(name=cmd_name, help=module.command.__doc__)(module.command)
        return _with_shared(typer.main.get_command(verb))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def _print_versions(value: bool) -> None:
    if value:
        from isthmus.cli._version import version_lines

        sys.stdout.write("\n".join(version_lines()) + "\n")
        raise typer.Exit


_app = typer.Typer(
    name="isthmus",
    cls=_LazyGroup,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@_app.callback(help="Edge and split computing: cut a network, compress what crosses, adapt to the link.")
def _root(
    _show_version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_versions, help="Show the versions a bug report needs."
        ),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see `isthmus.runtime.errors`)."""
    # gRPC's own notes of handshakes and lost peers would stand beside ours; GRPC_VERBOSITY=INFO shows them.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    choose_grpc_engine()
    console.quiet = False
    try:
        result = invoke(arguments)
    except typer.Exit as stop:
        return stop.exit_code
    except _UsageError as error:
        error.show()
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        errors.print("interrupted")
        return 130
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        return _fail(MissingExtraError(f"this command ({error.name})", extra))
    except IsthmusError as error:
        return _fail(error)
    return result if isinstance(result, int) else 0


def invoke(arguments: Sequence[str] | None = None) -> Any:
    """Run the command line within another command; its errors are left to the outer one.

    Raises:
        IsthmusError: If the command fails on purpose.
    """
    arguments = None if arguments is None else list(arguments)
    return root_command().main(args=arguments, prog_name="isthmus", standalone_mode=False)


def root_command() -> Any:
    """Return the command line as click knows it: for the reference that is made from it, and for tests."""
    return typer.main.get_command(_app)


def _fail(error: IsthmusError) -> int:
    errors.print("error: " + " ".join(str(error).split()), style="red", markup=False, soft_wrap=True)
    return error.exit_code
