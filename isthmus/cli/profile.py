"""`isthmus profile`: where a frame's time and joules go on this device, per operating point."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from isthmus.cli._common import JsonFlag, console, print_json
from isthmus.cli._group import verb_group
from isthmus.cli._profile_events import events
from isthmus.cli._progress import progress
from isthmus.cli._security_flags import AuthorityFlag, CertificateFlag, InsecureFlag, KeyFlag, TokenFlag

if TYPE_CHECKING:
    from isthmus.device_agents.profiling.bundle_run import Profile

_MACHINE_FILE = Path("machine.json")


def device(
    target: Annotated[
        Path, typer.Argument(metavar="BUNDLE|MODEL.onnx", help="A bundle, or a plain network.")
    ],
    server: Annotated[
        str | None, typer.Option(help="HOST:PORT of a server with this bundle [none: the device alone].")
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="SingleStream, MultiStream, Server, Offline (MLPerf's) or all; may be repeated "
            "[SingleStream]."
        ),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="WIDTHINDEX,CHANNELS", help="Only this point; may be repeated [all]."),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            help="Images: golden (the bundle's own few), or as 'isthmus agent --source' takes them."
        ),
    ] = "golden",
    duration: Annotated[str, typer.Option(help="Of one measurement, warm-up apart, at least.")] = "3s",
    warm_up: Annotated[str, typer.Option(help="Longest warm-up of one measurement.")] = "5s",
    streams: Annotated[int, typer.Option(min=1, max=32, help="Frames of one query of MultiStream.")] = 8,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="Arrivals per second of Server [half of what SingleStream answers]."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of Server's arrivals.")] = 1,
    energy: Annotated[
        str, typer.Option(help="Meter: auto, none, rapl, nvml, jetson, model:NAME, … as the agent's.")
    ] = "auto",
    model: Annotated[str | None, typer.Option(help="The model's name on the server [the bundle's].")] = None,
    codec: Annotated[str | None, typer.Option(help="Codec of the payloads [the bundle's first].")] = None,
    threads: Annotated[int, typer.Option(min=1, help="ONNX Runtime threads per session.")] = 1,
    provider: Annotated[
        Literal["auto", "cpu", "xnnpack", "cuda", "tensorrt"], typer.Option(help="What runs the networks.")
    ] = "auto",
    dim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Size of a symbolic dimension of MODEL; may be repeated."),
    ] = None,
    budget: Annotated[str, typer.Option(help="Time to spend on the nodes of a MODEL, about.")] = "20s",
    authority: AuthorityFlag = None,
    certificate: CertificateFlag = None,
    key: KeyFlag = None,
    token_file: TokenFlag = None,
    insecure: InsecureFlag = False,
    machine: Annotated[
        Path | None,
        typer.Option(
            help="Device profile to write, or to add to, for 'partition' and 'simulate' [for a MODEL: "
            "machine.json]."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the device profile calls this device.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write Chrome's trace events here, for ui.perfetto.dev.")
    ] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write the JSON result here as well.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure where a frame's time goes on this device: per point, p50, p90 and p99 of every part.

    With --server, frames go over the real link to a real server, by the agent's own parts. A measurement
    begins when it is warm: when the medians of three successive windows (0.25 s and 10 frames at least) lie
    within 5 %. Figures that are not to be trusted get a question mark, and a line that says why: it never
    became warm, fewer than 100 queries, halves more than 5 % apart, a processor whose frequency moved by more
    than 10 %, throttling, processors that others kept busy, frames answered otherwise, arrivals turned away,
    stages that do not add up to the latency within 3 %.
    """
    from isthmus.cli._profile_machine import (
        Machine,
        check_machine,
        write_bundle_machine,
        write_network_machine,
    )
    from isthmus.cli._profile_run import loads_of, run_bundle, run_network
    from isthmus.cli._profile_table import print_profile
    from isthmus.device_agents.profiling.measuring import Extent
    from isthmus.device_agents.profiling.trace import trace_events, write_trace
    from isthmus.runtime.energy import open_meter
    from isthmus.runtime.errors import InputError
    from isthmus.runtime.units import parse_duration_s

    loads = loads_of(scenario or ["SingleStream"], streams=streams, rate=rate, seed=seed)
    least_s = parse_duration_s(duration)
    extent = Extent(least_s=least_s, most_s=max(5 * least_s, 10.0), warm_up_s=parse_duration_s(warm_up))
    is_bundle = target.is_dir()
    bundle_only = {"--server": server, "--point": point, "--model": model, "--codec": codec}
    if not is_bundle and (given := [flag for flag, value in bundle_only.items() if value]):
        raise InputError(f"{given[0]} is about a bundle, {target} is none; give a bundle's directory")
    if is_bundle and dim:
        raise InputError("--dim is about a MODEL.onnx; a bundle's sizes are fixed")
    settings = {
        "threads": threads,
        "provider": provider,
        "codec": codec,
        "model": model,
        "authority": authority,
        "certificate": certificate,
        "key": key,
        "token_file": token_file,
        "insecure": insecure,
    }
    described = Machine(file=machine, name=name, threads=threads, provider=provider)
    check_machine(described)
    meter = open_meter(energy)
    with progress(f"profiling {target.name}") as show:
        if is_bundle:
            about, profile = run_bundle(
                target, server, point or [], source, settings, loads, extent, meter, show
            )
            written = write_bundle_machine(described, target, profile, str(about["provider"]))
        else:
            about, profile = run_network(target, dim or [], threads, provider, loads, extent, meter, show)
            show("measuring its nodes")
            written = write_network_machine(
                described,
                target,
                dim or [],
                default=_MACHINE_FILE,
                budget_s=parse_duration_s(budget),
                note=lambda text: console.print(text, markup=False),
            )
    if trace is not None:
        write_trace(trace, trace_events(profile.sections, offset=profile.offset, moments=profile.moments))
    files = [str(file) for file in (written, trace, out_file) if file is not None]
    result = _result(about, profile, seed=seed, files=files)
    if out_file is not None:
        _write(out_file, result)
    if as_json:
        print_json(result)
    else:
        print_profile(about, profile, files)


def _result(about: dict[str, Any], profile: Profile, *, seed: int, files: list[str]) -> dict[str, Any]:
    from dataclasses import asdict

    import msgspec

    from isthmus.cli._host import read_host, read_versions
    from isthmus.cli._profile_table import mlperf_figure
    from isthmus.device_agents.profiling.figures import PROFILE_SCHEMA_VERSION
    from isthmus.device_agents.profiling.trace import describe

    return {
        "schema_version": PROFILE_SCHEMA_VERSION,
        **about,
        "seed": seed,
        "host": asdict(read_host()),
        "versions": read_versions(None),
        "energy_source": profile.energy_source,
        "idle_w": profile.idle_w,
        "clock": describe(profile.offset),
        "figures": [
            {**msgspec.to_builtins(one), "trusted": one.trusted, "mlperf": mlperf_figure(one)}
            for one in profile.figures
        ],
        "files": files,
    }


def _write(file: Path, result: dict[str, Any]) -> None:
    from isthmus.runtime.errors import InputError

    try:
        file.write_text(json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; choose another --out") from None


app = verb_group(
    "device",
    {"device": device, "events": events},
    "Measure where time and joules go: of a bundle or a network on this device, or of a run from its log.",
)
