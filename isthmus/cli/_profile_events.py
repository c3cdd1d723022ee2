"""`isthmus profile events`: where the time of a run's frames went, from its event log."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli._common import JsonFlag, out, print_json

if TYPE_CHECKING:
    from isthmus.device_agents.profiling.figures import Quantiles
    from isthmus.runtime.events import FrameEvent


def events(
    log: Annotated[Path, typer.Argument(metavar="EVENTS", help="Event log of 'isthmus agent --events'.")],
    trace: Annotated[
        Path | None, typer.Option(help="Write Chrome's trace events here, for ui.perfetto.dev.")
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many frames at the start.")] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Look at so many frames at most.")] = 10_000,
    as_json: JsonFlag = False,
) -> None:
    """Show where the time of a run's frames went, stage by stage; with --trace, agent and server on one axis.

    Server instants are moved to this host's clock; by how much, and how sure that is, the last line and the
    trace say.
    """
    from isthmus.cli._profile_table import clock_line
    from isthmus.device_agents.profiling.clock_offset import estimate_offset
    from isthmus.device_agents.profiling.trace import Section, describe, trace_events, write_trace
    from isthmus.runtime.errors import InputError

    chosen = list(islice(_frames(log), skip, skip + frames))
    answered = [event for event in chosen if event.latency_s is not None]
    if not answered:
        raise InputError(f"{log}: no frame there was answered; give the log of another run, or less --skip")
    offset = estimate_offset(chosen)
    if trace is not None:
        write_trace(
            trace,
            trace_events([Section(name=str(log), frames=chosen)], offset=offset, most_frames=len(chosen)),
        )
    stages, share = _breakdown(answered)
    if as_json:
        import msgspec

        print_json(
            {
                "events": str(log),
                "frames": len(chosen),
                "answered": len(answered),
                "stages": msgspec.to_builtins(stages),
                "sum_over_latency": share,
                "clock": describe(offset),
                "trace": None if trace is None else str(trace),
            }
        )
        return
    _print(stages, share, len(answered), len(chosen))
    for line in (clock_line(offset), *([str(trace)] if trace else [])):
        out.print(line, soft_wrap=True, markup=False)


def _frames(log: Path) -> Iterator[FrameEvent]:
    from isthmus.runtime.events import FrameEvent, read_events

    return (event for event in read_events(log) if isinstance(event, FrameEvent))


def _breakdown(answered: list[FrameEvent]) -> tuple[dict[str, Quantiles], float]:
    """Return the seconds of every stage and of the whole, and the median of their sum over the whole."""
    from isthmus.device_agents.profiling.figures import quantiles, stage_quantiles, sum_over_latency
    from isthmus.device_agents.profiling.sample import Sample

    samples = [Sample(event=event, due_s=event.captured_s, as_asked=True) for event in answered]
    share = sum_over_latency(samples)
    assert share is not None
    whole = quantiles([sample.latency_s for sample in samples])
    return {**stage_quantiles(samples), "total": whole}, share


def _print(stages: dict[str, Quantiles], share: float, answered: int, count: int) -> None:
    from rich.table import Table

    from isthmus.cli._profile_table import milliseconds
    from isthmus.runtime.events import STAGES

    meanings: dict[str, Any] = {stage.name: stage.meaning for stage in STAGES}
    table = Table("stage", "p50", "p90", "p99", "", box=None, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    for name, seconds in stages.items():
        values = (seconds.p50_s, seconds.p90_s, seconds.p99_s)
        table.add_row(name, *map(milliseconds, values), meanings.get(name, "capture to answer"))
    out.print(table)
    out.print(
        f"ms, over the {answered} of {count} frames that were answered; the stages add up to {share:.1%} of "
        "the total at the median",
        soft_wrap=True,
    )
