"""The command line: one file per verb, each loaded only when it is used.

Decides how errors end a process: a deliberate error is one line and its documented exit code, anything else is our bug
and keeps its traceback.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click
import typer

from isthmus.cli._common import console
from isthmus.runtime.errors import IsthmusError, MissingExtraError

# verb → (module, one line of help). A verb's module holds `def command(...)` or, for a group, `app`.
VERBS: dict[str, str] = {
    "demo": "Train, export, serve and run everything once over a varying link; write a report.",
    "partition": "Find the best cut of a network for a device, a server and a link, or say not to split.",
    "train": "Train a slimmable bottleneck at a cut, by distillation.",
    "export": "Export a trained bottleneck as a bundle that both ends load.",
    "eval": "Measure accuracy and bytes of a bundle's operating points, answered by the real server.",
    "serve": "Serve the tails of bundles over gRPC (Open Inference Protocol v2).",
    "agent": "Run a bundle's heads on this device and stream latents to a server.",
    "link": "Stand between agent and server and shape the link after a trace.",
    "report": "Write a report from the event logs of a run.",
    "bench": "Run one benchmark of benchmarks/ and store its figures.",
    "doctor": "Check this machine and, if given, a bundle.",
}

# Which extra brings a module that a verb may miss.
_EXTRA_OF = {
    "torch": "train",
    "sklearn": "train",
    "onnxscript": "train",
    "onnx": "partition",
    "matplotlib": "plot",
    "grpc_reflection": "server",
    "prometheus_client": "server",
}


class _LazyGroup(click.Group):
    """A command group that imports a verb's module when that verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"isthmus.cli.{cmd_name}")
        verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        verb.command(name=cmd_name, help=module.command.__doc__)(module.command)
        return typer.main.get_command(verb)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from isthmus import __version__

        click.echo(f"isthmus {__version__}")
        ctx.exit()


_group = _LazyGroup(
    name="isthmus",
    help="Edge and split computing: cut a network, compress what crosses, adapt to the link.",
    params=[
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
        )
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see `isthmus.runtime.errors`)."""
    try:
        result = _group.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        console.print("interrupted")
        return 130
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        return _fail(MissingExtraError(f"this command ({error.name})", extra))
    except IsthmusError as error:
        return _fail(error)
    return result if isinstance(result, int) else 0


def _fail(error: IsthmusError) -> int:
    console.print("error: " + " ".join(str(error).split()), style="red", markup=False, soft_wrap=True)
    return error.exit_code
