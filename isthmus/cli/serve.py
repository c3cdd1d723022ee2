"""`isthmus serve`: host the tails of bundles until told to stop."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli._common import JsonFlag, console

if TYPE_CHECKING:
    from isthmus.runtime.server import DrainReport, ReadyReport, ServerConfig


_Text = str | None
_Number = int | None


def command(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundle directories, each served under its own name.")
    ] = None,
    repository: Annotated[
        Path | None, typer.Option(help="Directory of bundles that may be loaded and unloaded while serving.")
    ] = None,
    host: Annotated[
        _Text, typer.Option(help="Address to bind; beyond loopback it needs TLS [127.0.0.1].")
    ] = None,
    port: Annotated[_Number, typer.Option(help="Port to bind; 0 = any free one [8001].")] = None,
    processes: Annotated[
        _Number, typer.Option(help="Processes on the port, each with every bundle, restarted when dead [1].")
    ] = None,
    threads: Annotated[_Number, typer.Option(help="Cores per tail, and decoder threads [all].")] = None,
    backend: Annotated[_Text, typer.Option(help="auto, onnxruntime or torch [auto].")] = None,
    provider: Annotated[
        _Text, typer.Option(help="auto (the fastest that works), cpu, cuda or tensorrt [auto].")
    ] = None,
    precision: Annotated[_Text, typer.Option(help="fp32, bf16 or fp16, of the torch backend [fp32].")] = None,
    max_batch: Annotated[_Number, typer.Option(help="Most latents in one run of a tail [32].")] = None,
    queue: Annotated[
        _Number, typer.Option(help="Most latents of a bundle that wait; more are refused as busy [256].")
    ] = None,
    grace: Annotated[
        _Text, typer.Option(help="How long accepted frames may take when the server stops [5s].")
    ] = None,
    max_message_bytes: Annotated[
        _Number, typer.Option(help="Largest message taken or sent [4194304].")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM file of the server's certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    client_authority: Annotated[
        Path | None, typer.Option(help="PEM file of the authority of clients' certificates: mutual TLS.")
    ] = None,
    revoked: Annotated[
        Path | None, typer.Option(help="Revoked client certificates [revoked.txt beside their authority].")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="Clients' tokens, one 'name token' a line.")] = None,
    allow: Annotated[Path | None, typer.Option(help="File that says who may use which bundle.")] = None,
    max_connections: Annotated[_Number, typer.Option(help="Most connections at once [1024].")] = None,
    max_streams_per_client: Annotated[
        _Number, typer.Option(help="Most streams of a client at once [256].")
    ] = None,
    client_credit: Annotated[_Number, typer.Option(help="Most frames of a client in flight [256].")] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Allow plain text beyond loopback, on a network you trust."),
    ] = None,
    metrics_port: Annotated[
        _Number, typer.Option(help="Port on which Prometheus reads; 0 = any free one [none].")
    ] = None,
    metrics_host: Annotated[_Text, typer.Option(help="Address of that port [127.0.0.1].")] = None,
    watch: Annotated[
        bool | None, typer.Option("--watch", help="Load a bundle again when its manifest changes.")
    ] = None,
    json_logs: Annotated[
        bool | None, typer.Option("--json-logs", help="Log one JSON object per line.")
    ] = None,
    traces: Annotated[
        bool | None, typer.Option("--traces", help="Make OpenTelemetry spans (extra 'otel').")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file with settings of the same names.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Serve the tails of bundles over gRPC (Open Inference Protocol v2) until SIGTERM or Ctrl-C.

    Prints one line on standard output when frames are taken, and one when it has stopped. To stop, it first
    says NOT_SERVING, then answers every frame it has accepted; a second signal cuts that short. SIGHUP loads
    changed bundles again without losing a frame. A flag wins over the environment (ISTHMUS_SERVE_PORT, ...),
    that over the file of --config.
    """
    # The flags are this function's parameters of the settings' names, so that none can be forgotten here.
    given = {**locals(), "bundles": bundles or None}
    from isthmus.runtime.server.settings import SETTINGS, read_config

    settings = read_config({name: given.get(name) for name in SETTINGS}, file=config)
    _log_to_stderr()
    report = asyncio.run(_serve(settings, as_json=as_json))
    _print(_stopped(report, as_json=as_json))


async def _serve(config: ServerConfig, *, as_json: bool) -> DrainReport:
    from isthmus.runtime.server import TailServer, run_until

    stops: asyncio.Queue[int] = asyncio.Queue()

    def on_ready(report: ReadyReport) -> None:
        # Until here a signal ends the process at once: nothing has been accepted.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stops.put_nowait, number)
        _print(_ready(report, config.host, as_json=as_json))

    return await run_until(stops, TailServer(config), on_ready)


def _ready(report: ReadyReport, host: str, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(
            {
                "event": "ready",
                "port": report.port,
                "models": list(report.models),
                "provider": report.providers[0],
                "providers": dict(zip(report.models, report.providers, strict=True)),
            }
        )
    models = ", ".join(
        f"{name} ({provider})" for name, provider in zip(report.models, report.providers, strict=True)
    )
    return f"ready on {host}:{report.port}: {models}"


def _stopped(report: DrainReport, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(
            {
                "event": "stopped",
                "outcomes": report.outcomes,
                "complete": report.complete,
                "drain_s": round(report.drain_s, 3),
            }
        )
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in report.outcomes.items()) or "none"
    rest = "" if report.complete else "; the grace ended before every call had"
    return f"stopped after {report.drain_s:.2f} s; frames: {outcomes}{rest}"


def _print(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever started us is gone; serving and stopping go on without it
        sys.stdout = sys.stderr


def _log_to_stderr() -> None:
    import logging

    from rich.logging import RichHandler

    handler = RichHandler(console=console, show_path=False, markup=False, log_time_format="%H:%M:%S")
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
