"""`isthmus bench`: run one benchmark of the source checkout and store its figures with all they depend on."""

from __future__ import annotations

import importlib.util
import inspect
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import isthmus
from isthmus.cli._common import console, out
from isthmus.cli._figures import check_result, figure_table
from isthmus.runtime.errors import InputError

if TYPE_CHECKING:
    from isthmus.cli._host import Host

Run = Callable[..., Any]
_MODULE_PREFIX = "isthmus_benchmark_"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(name="bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The benchmark: a file of benchmarks/ without its .py.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file; - is standard output.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer rounds: to see that it runs, not to quote it.")
    ] = False,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", help="key=value for the benchmark; --key value says the same."),
    ] = None,
) -> None:
    """Run one benchmark of benchmarks/ and store its figures.

    The benchmarks are part of the source checkout, not of an installed wheel. benchmarks/METHODOLOGY.md says
    how their figures are made.
    """
    from isthmus.cli._host import read_host, read_versions

    if name.startswith("-"):  # flags are left to the benchmark, so this one was not refused
        raise typer.BadParameter(f"No such option: {name}")
    folder = benchmark_folder()
    name = name.replace("-", "_")
    run = load_benchmark(folder, name)
    pairs = [*(options or []), *pairs_of_flags(context.args)]
    given = parse_options(pairs) | ({"quick": True} if quick else {})
    _check_options(run, name, given)
    to_stdout = json_file == Path("-")
    if json_file is not None and not to_stdout and not json_file.resolve().parent.is_dir():
        raise InputError(f"{json_file}: its folder does not exist; make it or choose another --json file")
    host = read_host()
    if host.is_busy:
        console.print(
            f"warning: load average {host.load_average} on {host.usable_cores} cores: times will be too long",
            style="yellow",
        )
    started = time.perf_counter()
    console.print(f"running {name} …")  # no spinner: it would take time from what is measured
    result = run(**given)
    figures, ratios = check_result(result, folder / f"{name}.py")
    record = {
        "name": name,
        "command": canonical_command(name, given, json_file),
        "date": datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
        "duration_s": round(time.perf_counter() - started, 3),
        "host": asdict(host),
        "versions": read_versions(folder.parent),
        "figures": figures,
        "ratios": ratios,
    }
    if not to_stdout and "text" in result:
        out.print(result["text"], markup=False, soft_wrap=True)
    elif not to_stdout:
        out.print(figure_table(f"{name}: figures ({_where(host)})", figures))
        out.print(figure_table(f"{name}: ratios", ratios))
    if json_file is not None:
        _write(record, json_file)


def benchmark_folder(package: Path | None = None) -> Path:
    """Return benchmarks/ of the checkout that the package `package` (default: this one) lies in.

    Raises:
        InputError: If there is none: the package was installed from a wheel.
    """
    source = package or Path(isthmus.__file__)
    folder = source.resolve().parent.parent / "benchmarks"
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no benchmarks in this installation; run 'isthmus bench' in a source checkout"
        )
    return folder


def load_benchmark(folder: Path, name: str) -> Run:
    """Return the function `run` of the benchmark `name`.

    Raises:
        InputError: If there is no such benchmark (the message lists those there are), or it has no `run`.
    """
    names = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
    if name not in names:
        raise InputError(
            f"benchmark {name!r} does not exist; choose one of: {', '.join(names) or 'none here'}"
        )
    file = folder / f"{name}.py"
    module_name = _MODULE_PREFIX + name
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickled workers look their module up
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last, so that a benchmark's name never hides a library
    spec.loader.exec_module(module)
    run = getattr(module, "run", None)
    if not callable(run):
        raise InputError(f"{file}: has no function run(**options); every benchmark has one")
    return run  # type: ignore[no-any-return]


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` pairs as keyword arguments; a value that is not JSON is text.

    Raises:
        InputError: If a pair has no `=` or its key is no name.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise InputError(f"--option {pair!r} is not key=value; write for example --option rounds=50")
        try:
            options[key] = json.loads(text)
        except json.JSONDecodeError:
            options[key] = text
    return options


def pairs_of_flags(arguments: Sequence[str]) -> list[str]:
    """Return `--key value` and `--key=value` as `key=value` pairs.

    Raises:
        InputError: If something is no flag, or a flag has no value.
    """
    pairs, pending = [], list(arguments)
    while pending:
        flag = pending.pop(0)
        if not flag.startswith("--") or flag == "--":
            raise InputError(f"{flag!r} is not an option of a benchmark; write --key value")
        key, equals, value = flag[2:].partition("=")
        if not equals and not pending:
            raise InputError(f"--{key} has no value; write --{key} VALUE")
        pairs.append(f"{key}={value if equals else pending.pop(0)}")
    return pairs


def canonical_command(name: str, options: Mapping[str, Any], json_file: Path | None) -> str:
    """Return the command that repeats the measurement.

    An absolute output path is true of one machine only, so it is left out.
    """
    words = ["isthmus", "bench", name]
    for key, value in options.items():
        if key == "quick" and value is True:
            words.append("--quick")
        else:
            words += ["--option", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    if json_file is not None and not json_file.is_absolute():
        words += ["--json", str(json_file)]
    return shlex.join(words)


def _where(host: Host) -> str:
    return f"{host.cpu or host.architecture}, {host.usable_cores} cores, load {host.load_average}"


def _check_options(run: Run, name: str, options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(run).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in options:
        if key not in parameters:
            known = ", ".join(parameters) or "none"
            raise InputError(f"benchmark {name!r} has no option {key!r}; it takes: {known}")


def _write(record: Mapping[str, Any], json_file: Path) -> None:
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if json_file == Path("-"):
        sys.stdout.write(text)
        return
    partial = json_file.with_name(json_file.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(json_file)
    except OSError as error:
        raise InputError(f"{json_file}: {error.strerror or error}; choose another --json file") from None
    console.print(f"written: {json_file}", markup=False, soft_wrap=True)
