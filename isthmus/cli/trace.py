"""`isthmus trace`: look at the rate of a link over time, convert it, make one, draw it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli._common import JsonFlag, out, print_json
from isthmus.cli._group import verb_group
from isthmus.cli._progress import progress

if TYPE_CHECKING:
    from isthmus.runtime.links import RateTrace

_SPEC_HELP = (
    "A file (mahimahi, 'seconds Mbit/s' lines, JSON durations), csv:FILE,rate=COLUMN,unit=Mbit,time=COLUMN, "
    "outage, constant:RATE, step:RATE@TIME,…, sine:LOW..HIGH@PERIOD or markov:RATE@MEAN,RATE@MEAN[,seed=N]."
)
_Spec = Annotated[str, typer.Argument(help=_SPEC_HELP)]
_Form = Annotated[str, typer.Option("--to", help="Format: columns, json, mahimahi or csv.")]
_Out = Annotated[Path, typer.Option("--out", "-o", help="File to write.")]


def info(trace: _Spec, as_json: JsonFlag = False) -> None:
    """Say what a trace carries, how evenly, and how long it carries nothing."""
    from isthmus.runtime.links import describe_trace, load_trace

    facts = _facts(describe_trace(load_trace(trace)), trace)
    if as_json:
        print_json(facts)
        return
    from isthmus.runtime.units import format_duration, format_rate

    quantiles = ", ".join(f"{name} {format_rate(rate)}" for name, rate in facts["quantiles"].items())
    for name, text in (
        ("duration", format_duration(facts["duration_s"])),
        ("mean", f"{format_rate(facts['mean_rate'])} ({facts['mean_rate'] * 8e-6:.3g} Mbit/s)"),
        ("peak", format_rate(facts["peak_rate"])),
        ("100-ms bins", quantiles),
        ("empty bins", f"{facts['empty_share']:.1%}"),
        (
            "outages",
            f"{facts['outages']} of 100 ms or more, longest {format_duration(facts['longest_outage_s'])}",
        ),
    ):
        out.print(f"{name:<12} {text}", markup=False, soft_wrap=True)


def convert(trace: _Spec, to: _Out, form: _Form = "columns", as_json: JsonFlag = False) -> None:
    """Write a trace in another format.

    `columns` (seconds Mbit/s), `json` and `csv` keep every segment; `mahimahi` rounds to packets of 1,500
    bytes and whole milliseconds.
    """
    from isthmus.runtime.links import load_trace

    _write(load_trace(trace), trace, to, form, as_json=as_json)


def generate(trace: _Spec, to: _Out, form: _Form = "columns", as_json: JsonFlag = False) -> None:
    """Make a trace: constant, step, sine, markov or outage; the same seed gives the same trace."""
    from isthmus.runtime.errors import InputError
    from isthmus.runtime.links import GENERATORS, load_trace

    if trace != "outage" and trace.partition(":")[0] not in GENERATORS:
        raise InputError(
            f"{trace!r} is no generator: give outage, {', '.join(f'{name}:…' for name in GENERATORS)}; "
            "'isthmus trace convert' reads files"
        )
    _write(load_trace(trace), trace, to, form, as_json=as_json)


def plot(
    trace: _Spec,
    to: _Out,
    bin_ms: Annotated[int, typer.Option(min=1, help="Average over so many milliseconds.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """Draw a trace over time into a PNG, SVG or PDF file; needs the extra `plot`."""
    from isthmus.cli._trace_plot import draw
    from isthmus.runtime.links import load_trace

    with progress(f"drawing {trace}"):
        draw(load_trace(trace), to, bin_s=bin_ms / 1e3)
    if as_json:
        print_json({"trace": trace, "file": str(to)})
    else:
        out.print(str(to), markup=False, soft_wrap=True)


def _facts(facts: Any, trace: str) -> dict[str, Any]:
    from dataclasses import asdict

    quantiles = {f"p{share * 100:.0f}": rate for share, rate in facts.quantiles.items()}
    return {"trace": trace, **asdict(facts), "quantiles": quantiles}


def _write(trace: RateTrace, spec: str, to: Path, form: str, *, as_json: bool) -> None:
    from isthmus.runtime.errors import InputError
    from isthmus.runtime.links import WRITERS
    from isthmus.runtime.units import format_duration, format_rate

    if form not in WRITERS:
        raise InputError(f"--to {form!r}: give {', '.join(WRITERS)}")
    text = WRITERS[form](trace)
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{to}: {error.strerror or error}; choose another file") from None
    if as_json:
        print_json({"trace": spec, "file": str(to), "format": form, "bytes": len(text.encode())})
    else:
        rate, lasts = format_rate(trace.mean_rate), format_duration(trace.duration_s)
        out.print(f"{to}: {form}, {rate} over {lasts}", markup=False, soft_wrap=True)


app = verb_group(
    "info",
    {"info": info, "convert": convert, "generate": generate, "plot": plot},
    "Look at the rate of a link over time, convert it, make one, draw it. 'isthmus trace FILE' means info.",
)
