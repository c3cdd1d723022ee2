"""`isthmus report`: what a run did, from its event logs, as a page, a picture, Markdown, JSON or CSV."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli._common import JsonFlag, console, out, print_json
from isthmus.cli._progress import progress
from isthmus.runtime.errors import InputError


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="A run folder (events.jsonl, link.jsonl, bundle/ …) or event logs; several compare."
        ),
    ],
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="The bundle the agent ran with, for accuracy against bytes and regret [default: RUN/bundle]."
        ),
    ] = None,
    trace: Annotated[
        str | None,
        typer.Option(
            help="The rates the link had from the run's first frame on, for regret [default: as logged]."
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="html, md, json, csv or png.")] = "html",
    output: Annotated[
        Path | None,
        typer.Option("--out", help="The file to write [default: report.FORMAT beside the first log]."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that read a long log [default: all cores].")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a report from the event logs of a run: one file that needs nothing else.

    A log that stops in the middle is reported up to its last whole line, and the report says so. Memory does
    not grow with the number of frames, but for some 60 bytes a second that the agent says of its link.
    """
    from isthmus.report import Format, load_runs, summarise, write_report
    from isthmus.report.formats import as_figures
    from isthmus.report.verdict import verdict
    from isthmus.runtime.links import load_trace

    try:
        chosen = Format(form)
    except ValueError:
        known = ", ".join(one.value for one in Format)
        raise InputError(f"--format {form}: no such format; choose one of {known}") from None
    rates = None if trace is None else load_trace(trace)
    with progress("reading") as show:
        runs = load_runs(paths, bundle=bundle, trace=rates, jobs=jobs or _usable_cores(), watch=show)
        path = output if output is not None else runs[0].folder / f"report.{chosen.value}"
        show("adding up", None)
        summaries = [summarise(run) for run in runs]
        show("writing", None)
        write_report(runs, summaries, path, form=chosen)
    if as_json:
        print_json({"report": str(path), "runs": as_figures(summaries)})
        return
    for summary in summaries:
        prefix = f"{summary.name}: " if len(summaries) > 1 else ""
        console.print(prefix + verdict(summary), markup=False)
        for note in summary.notes:
            console.print(f"note: {note}", style="yellow", markup=False)
    out.print(str(path), markup=False, soft_wrap=True)


def _usable_cores() -> int:
    # The server's own function would load all of the server.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
