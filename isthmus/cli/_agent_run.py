"""`isthmus agent run`: run a bundle's heads on this device and stream latents to a server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli._agent_table import AgentView
from isthmus.cli._common import JsonFlag, console, errors, out, print_json
from isthmus.cli._progress import progress
from isthmus.cli._security_flags import AuthorityFlag, CertificateFlag, KeyFlag, TokenFlag
from isthmus.runtime.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from isthmus.device_agents.agent import AgentRun
    from isthmus.device_agents.config import AgentConfig
    from isthmus.device_agents.ledger import RunReport
    from isthmus.runtime.bundle import Bundle

_Text = str | None


def run(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle directory, as 'isthmus export' writes it.")
    ] = None,
    name: Annotated[_Text, typer.Option(help="What this device calls itself [the host's name].")] = None,
    server: Annotated[_Text, typer.Option(help="HOST:PORT of the tail server [127.0.0.1:8001].")] = None,
    servers: Annotated[_Text, typer.Option(help="Several, with commas, the preferred first.")] = None,
    source: Annotated[
        _Text,
        typer.Option(
            help="camera:0, camera:rtsp://…, video:FILE, folder:DIR, npz:FILE, synthetic[:HxW] or digits; "
            "images are looped, videos not, unless 'once:' or 'loop:' stands before."
        ),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames captured per second [30].")] = None,
    deadline: Annotated[_Text, typer.Option(help="From capture to answer [150ms].")] = None,
    queue: Annotated[
        _Text, typer.Option(help="newest (stale frames are dropped) or fifo:N [newest].")
    ] = None,
    policy: Annotated[
        _Text, typer.Option(help="expected-utility, fixed:WIDTHINDEX,CHANNELS, local, … [expected-utility].")
    ] = None,
    objective: Annotated[_Text, typer.Option(help="accuracy, energy or bytes:PER_HOUR [accuracy].")] = None,
    exit_confidence: Annotated[
        _Text, typer.Option(help="Answer by the early exit at once from this confidence on [none].")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Stop after so many frames [never].")] = None,
    duration: Annotated[_Text, typer.Option(help="Stop after so long, e.g. 30s [never].")] = None,
    events: Annotated[_Text, typer.Option(help="Write the event log to this file [no log].")] = None,
    events_to: Annotated[
        _Text, typer.Option(help="Send events to the dashboard at http(s)://HOST:PORT too [no].")
    ] = None,
    events_token_file: Annotated[Path | None, typer.Option(help="File with that dashboard's token.")] = None,
    control: Annotated[
        _Text, typer.Option(help="Socket file for 'isthmus agent set' and the dashboard [none].")
    ] = None,
    results: Annotated[
        _Text, typer.Option(help="Answers to - (JSON lines), a file or mqtt://HOST:PORT/TOPIC.")
    ] = None,
    status: Annotated[_Text, typer.Option(help="File for 'isthmus agent status' [none].")] = None,
    model: Annotated[_Text, typer.Option(help="The model's name on the server [the bundle's].")] = None,
    codec: Annotated[_Text, typer.Option(help="Codec of the payloads [the bundle's first].")] = None,
    threads: Annotated[int | None, typer.Option(help="ONNX Runtime threads per head [1].")] = None,
    provider: Annotated[_Text, typer.Option(help="auto, cpu, xnnpack, cuda or tensorrt [auto].")] = None,
    thermal: Annotated[_Text, typer.Option(help="auto or off [auto].")] = None,
    energy: Annotated[
        _Text,
        typer.Option(
            help="auto (a sensor, if one can be read), none, jetson, rpi5, rapl, nvml, command:CMD, "
            "mqtt://HOST/TOPIC, serial:DEVICE, model:PROFILE or replay:FILE [auto]."
        ),
    ] = None,
    energy_idle: Annotated[
        _Text, typer.Option(help="Watch the device at rest for so long first, if there is a meter [2s].")
    ] = None,
    device: Annotated[
        _Text, typer.Option(help="This device's profile, for its radio and watts: pi4, a file, … [none].")
    ] = None,
    failback: Annotated[
        _Text, typer.Option(help="A preferred server must be ready for so long [10s].")
    ] = None,
    connect_timeout: Annotated[_Text, typer.Option(help="Of one attempt to reach a server [5s].")] = None,
    retry_cap: Annotated[_Text, typer.Option(help="Longest pause between attempts [1.5s].")] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Allow plain text to a server that is not this host.")
    ] = None,
    authority: AuthorityFlag = None,
    certificate: CertificateFlag = None,
    key: KeyFlag = None,
    token_file: TokenFlag = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file with settings of the same names.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a bundle's heads on this device and stream latents to a server.

    Captures frames at a steady rate; each is answered once: by the server, by the device itself when the link
    or the deadline demands it, late, or not at all (dropped). A server that cannot be reached is no error:
    the device answers and tries again. One that is not trusted, or does not trust this device, ends it with
    exit code 8. Stops after --frames or --duration, when the source ends, on Ctrl-C or on SIGTERM, each with
    exit code 0 after every frame in flight has ended; a second Ctrl-C does not wait for them. A flag wins
    over the environment (ISTHMUS_AGENT_SERVER, ...), that over the file of --config.
    """
    # The flags are this function's parameters of the settings' names, so that none can be forgotten here.
    given = dict(locals())
    from isthmus.device_agents.bank import WidthBank
    from isthmus.device_agents.clock import run_exactly
    from isthmus.device_agents.config import read_config
    from isthmus.device_agents.settings import DEFAULTS
    from isthmus.device_agents.sources import open_source
    from isthmus.runtime.bundle import load_bundle
    from isthmus.runtime.errors import InputError
    from isthmus.runtime.events import EventLog

    settings = read_config({name: given[name] for name in DEFAULTS}, file=config)
    if settings.bundle is None:
        raise InputError('bundle is not set: give BUNDLE, or bundle = "…" in the file of --config')
    if settings.results == "-" and as_json:
        raise InputError("results '-' and --json both want standard output; write the results to a file")
    loaded = load_bundle(settings.bundle)
    # Where results go to standard output, people read standard error; --quiet leaves them the summary.
    shown = errors if settings.results == "-" else out
    quiet = console.quiet
    view = AgentView(
        shown, console, widths=loaded.manifest.widths, table=not (quiet or as_json), notes=not quiet
    )
    with contextlib.ExitStack() as stack:
        frame_source = open_source(settings.source, loaded.manifest, note=view.note)
        stack.callback(frame_source.close)
        with progress("warming the heads"):
            bank = WidthBank(loaded, threads=settings.threads, provider=settings.provider)
        log = EventLog(settings.events) if settings.events is not None else None
        if log is not None:
            stack.callback(log.close)
        stack.enter_context(view)
        view.note(
            f"{loaded.manifest.name}: {len(loaded.manifest.widths)} widths warm on {bank.provider}, "
            f"{settings.threads} thread(s); {frame_source.name} at {settings.fps:g} frames/s"
        )

        def start() -> AgentRun:
            from isthmus.device_agents.agent import AgentRun

            return AgentRun(settings, loaded, bank=bank, source=frame_source, log=log, observer=view)

        report = run_exactly(_run(start))
    if as_json:
        print_json(_result(report, settings, loaded, bank.provider))
    else:
        _show(report, settings, shown)


async def _run(start: Any) -> RunReport:
    agent: AgentRun = start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    return await agent.run()


def _result(report: RunReport, config: AgentConfig, bundle: Bundle, provider: str) -> dict[str, Any]:
    summary = report.summary
    return {
        "bundle": bundle.manifest.name,
        "bundle_digest": bundle.digest,
        "server": config.server,
        "servers": list(config.servers),
        "policy": config.policy,
        "source": config.source,
        "provider": provider,
        "fps": config.fps,
        "deadline_s": config.deadline_s,
        "captured": summary.captured,
        "outcomes": summary.outcomes,
        "accuracy": summary.accuracy,
        "accuracy_by_outcome": summary.accuracy_by_outcome,
        "latency_s": {
            "p50": summary.latency_p50_s,
            "p90": summary.latency_p90_s,
            "p99": summary.latency_p99_s,
        },
        "sent": summary.sent,
        "mean_payload_bytes": summary.mean_payload_bytes,
        "points": [
            {
                "width_index": use.width_index,
                "width": bundle.manifest.widths[use.width_index],
                "channels": use.channels,
                "frames": use.frames,
            }
            for use in summary.points
        ],
        "connections": report.connections,
        "reconnects": report.reconnects,
        "events": None if config.events is None else str(config.events),
        "events_lost": report.events_lost,
        "results_lost": report.results_lost,
        "energy_j": report.energy.energy_j,
        "energy_source": report.energy.source,
        "idle_w": report.energy.idle_w,
    }


def _show(report: RunReport, config: AgentConfig, to: Console) -> None:
    summary = report.summary
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items() if count)
    lines = [f"{summary.captured} frames: {outcomes or 'none'}"]
    if summary.accuracy is not None:
        by = ", ".join(f"{outcome} {share:.1%}" for outcome, share in summary.accuracy_by_outcome.items())
        lines.append(f"accuracy of answers in time: {summary.accuracy:.1%} ({by})")
    times = [summary.latency_p50_s, summary.latency_p90_s, summary.latency_p99_s]
    if None not in times:
        shown = " / ".join(format_duration(seconds) for seconds in times if seconds is not None)
        lines.append(f"latency p50/p90/p99: {shown} (deadline {format_duration(config.deadline_s)})")
    if summary.mean_payload_bytes is not None:
        lines.append(
            f"{summary.sent} frames sent at {len(summary.points)} operating points, "
            f"{format_bytes(summary.mean_payload_bytes)} each on average; {report.reconnects} reconnects"
        )
    elif report.connections == 0 and config.policy != "local":
        lines.append(f"server {', '.join(config.servers)} was never reached")
    if config.events is not None:
        lost = f", {report.events_lost} events lost" if report.events_lost else ""
        lines.append(f"events: {config.events}{lost}")
    if report.energy.source is not None:
        lines.append(_energy(report))
    if report.results_lost:
        lines.append(f"{report.results_lost} results lost")
    for line in lines:
        to.print(line, markup=False, soft_wrap=True)


def _energy(report: RunReport) -> str:
    from isthmus.runtime.energy import is_modelled

    found, captured = report.energy, report.summary.captured
    how = f"{'modelled' if is_modelled(str(found.source)) else 'measured'}: {found.source}"
    if found.energy_j is None:
        return f"energy unknown ({how})"
    each = f", {found.energy_j / captured:.3g} J a frame" if captured else ""
    return f"energy: {found.energy_j:.1f} J{each} ({how})"
