"""`isthmus agent set`: change what a running agent was told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli._common import JsonFlag, out, print_json


def set_agent(
    control: Annotated[Path, typer.Argument(help="The --control file of an agent that runs.")],
    deadline: Annotated[
        str | None, typer.Option(help="Of frames captured from now on, e.g. 80ms; 'start': as at the start.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set the deadline of an agent that runs; without --deadline, say which it has."""
    from isthmus.runtime.steering import steer
    from isthmus.runtime.units import format_duration, parse_duration_s

    wish: dict[str, float | None] = {}
    if deadline is not None:
        wish["deadline_s"] = None if deadline == "start" else parse_duration_s(deadline)
    said = asyncio.run(steer(control, wish))
    (knob,) = said.knobs
    if as_json:
        print_json({"name": said.name, knob.name: knob.value, "is_set": knob.is_set})
    else:
        assert knob.value is not None
        how = "set" if knob.is_set else "as at the start"
        out.print(f"{said.name}: deadline {format_duration(knob.value)} ({how})", markup=False)
