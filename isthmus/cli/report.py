"""`isthmus report`: one page from the event logs of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli._common import JsonFlag, console, out, print_json


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="A run folder (events.jsonl, link.jsonl, bundle/ …) or event logs; several compare."
        ),
    ],
    bundle: Annotated[
        Path | None,
        typer.Option(help="The bundle the agent ran with, for accuracy against bytes [default: RUN/bundle]."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="The page to write [default: report.html beside the first log]."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a report from the event logs of a run: one HTML file that needs nothing else.

    A log that stops in the middle is reported up to its last whole line, and the page says so.
    """
    import msgspec

    from isthmus.report import load_runs, summarise, write_report
    from isthmus.report.verdict import verdict

    runs = load_runs(paths, bundle=bundle)
    path = output if output is not None else runs[0].folder / "report.html"
    write_report(runs, path)
    summaries = [summarise(run) for run in runs]
    if as_json:
        print_json({"report": str(path), "runs": msgspec.to_builtins(summaries)})
        return
    for summary in summaries:
        prefix = f"{summary.name}: " if len(summaries) > 1 else ""
        console.print(prefix + verdict(summary), markup=False)
        for note in summary.notes:
            console.print(f"note: {note}", style="yellow", markup=False)
    out.print(str(path), markup=False, soft_wrap=True)
