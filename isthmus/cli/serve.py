"""`isthmus serve`: host the tails of bundles until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli._common import JsonFlag, console, errors
from isthmus.cli._progress import progress
from isthmus.cli._serve_lines import print_line, ready_line, said, stopped_line

if TYPE_CHECKING:
    from isthmus.runtime.server import DrainReport, ReadyReport, ServerConfig, TailServer
    from isthmus.runtime.server.records import Recorder
    from isthmus.runtime.server.worker_link import WorkerLink


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
    hung_after: Annotated[
        _Text, typer.Option(help="Silence after which one of several processes is replaced [30s].")
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
    from isthmus.runtime.server.event_loop import run_server
    from isthmus.runtime.server.settings import SETTINGS, read_config
    from isthmus.runtime.server.supervisor import WORKER

    settings = read_config({name: given.get(name) for name in SETTINGS}, file=config)
    _log_to_stderr(as_json=settings.json_logs)
    if WORKER in os.environ:
        _work(settings, os.environ[WORKER])
    elif settings.processes > 1:
        _supervise(settings, as_json=as_json)
    else:
        print_line(stopped_line(run_server(_serve(settings, as_json=as_json)), as_json=as_json))


async def _serve(config: ServerConfig, *, as_json: bool, parent: int | None = None) -> DrainReport:
    """Serve until told to stop; with `parent` also when that process is not our parent any more."""
    from isthmus.runtime.server import TailServer, run_until
    from isthmus.runtime.server.metrics import MULTIPROCESS_DIRECTORY, Metrics, MetricsPage
    from isthmus.runtime.server.tracing import Tracer
    from isthmus.runtime.server.worker_link import WorkerLink

    stops: asyncio.Queue[int] = asyncio.Queue()
    with contextlib.ExitStack() as stack:
        recorders: list[Recorder] = []
        page = None
        if config.metrics_port is not None:
            metrics = Metrics()
            recorders.append(metrics)
            if MULTIPROCESS_DIRECTORY not in os.environ:
                page = MetricsPage(metrics.registry, host=config.metrics_host, port=config.metrics_port)
                stack.callback(page.close)
        if config.traces:
            tracer = Tracer()
            recorders.append(tracer)
            stack.callback(tracer.close)
        link: WorkerLink | None = None
        if parent is not None:
            link = WorkerLink(
                lambda said: print_line(json.dumps(said)), lambda change, name: server.change(change, name)
            )
        server = TailServer(config, recorders=recorders, announce=None if link is None else link.announce)
        loading = stack.enter_context(contextlib.ExitStack())
        if parent is None:
            loading.enter_context(progress("loading, and computing a batch of every size"))

        def on_ready(report: ReadyReport) -> None:
            loading.close()
            # Until here a signal ends the process at once: nothing has been accepted.
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stops.put_nowait, number)
            loop.add_signal_handler(signal.SIGHUP, _reload, server, loop)
            facts = said(report, page.port if page is not None else None)
            print_line(json.dumps(facts) if as_json else ready_line(facts, config))

        helpers = [asyncio.create_task(_stop_when_orphaned(parent, stops))]
        if link is not None:
            helpers += [asyncio.create_task(link.live()), asyncio.create_task(_hear_supervisor(link))]
        try:
            return await run_until(stops, server, on_ready)
        finally:
            for helper in helpers:
                helper.cancel()


async def _hear_supervisor(link: WorkerLink) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        link.hear(json.loads(line))


def _reload(server: TailServer, loop: asyncio.AbstractEventLoop) -> None:
    task = loop.create_task(server.reload())
    _reloading.add(task)
    task.add_done_callback(_reloading.discard)


# The event loop keeps only weak references to its tasks.
_reloading: set[asyncio.Task[tuple[str, ...]]] = set()


async def _stop_when_orphaned(parent: int | None, stops: asyncio.Queue[int]) -> None:
    # The kernel tells nobody that its parent has died; asking once a second costs nothing.
    while parent is None or os.getppid() == parent:  # noqa: ASYNC110
        await asyncio.sleep(1.0)
    stops.put_nowait(signal.SIGTERM)


def _work(config: ServerConfig, told: str) -> None:
    """Be one of a supervisor's workers."""
    from isthmus.runtime.server.event_loop import run_server

    number, port = (int(part) for part in told.split(":"))
    config = dataclasses.replace(config, port=port)
    logging.getLogger("isthmus.server").info("worker %d starts", number)
    print_line(stopped_line(run_server(_serve(config, as_json=True, parent=os.getppid())), as_json=True))


def _supervise(config: ServerConfig, *, as_json: bool) -> None:
    """Keep `config.processes` workers running, each this very command."""
    from isthmus.runtime.server.reserved_port import ReservedPort
    from isthmus.runtime.server.supervisor import StartFailedError

    with contextlib.ExitStack() as stack:
        port = ReservedPort(config.host, config.port)
        stack.callback(port.close)
        environment = dict(os.environ)
        if config.metrics_port is not None:
            from isthmus.runtime.server.metrics import MULTIPROCESS_DIRECTORY

            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="isthmus-metrics-"))
            os.environ[MULTIPROCESS_DIRECTORY] = environment[MULTIPROCESS_DIRECTORY] = folder
        try:
            report = asyncio.run(_keep_workers(config, port.port, environment, as_json=as_json))
        except StartFailedError as failed:
            raise typer.Exit(failed.code if failed.code > 0 else 1) from None
    print_line(stopped_line(report, as_json=as_json))


async def _keep_workers(
    config: ServerConfig, port: int, environment: dict[str, str], *, as_json: bool
) -> DrainReport:
    from isthmus.runtime.server import DrainReport
    from isthmus.runtime.server.metrics import MetricsPage, forget_process, summed_registry
    from isthmus.runtime.server.supervisor import Supervisor

    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    page = None
    if config.metrics_port is not None:
        page = MetricsPage(summed_registry(), host=config.metrics_host, port=config.metrics_port)
    metrics = {} if page is None else {"metrics_port": page.port}
    loading = contextlib.ExitStack()
    loading.enter_context(progress(f"{config.processes} processes load, and compute a batch of every size"))

    def on_ready(heard: dict[str, Any]) -> None:
        loading.close()
        facts = {**heard, "processes": config.processes, **metrics}
        print_line(json.dumps(facts) if as_json else ready_line(facts, config))

    supervisor = Supervisor(
        (sys.executable, "-m", "isthmus", *sys.argv[1:]),
        processes=config.processes,
        port=port,
        grace_s=config.grace_s,
        hung_s=config.hung_s,
        environment=environment,
        on_ready=on_ready,
        on_death=forget_process if page is not None else lambda pid: None,
    )
    try:
        await supervisor.run(signals)
    finally:
        loading.close()
        if page is not None:
            page.close()
    outcomes = dict(sorted(supervisor.outcomes.items()))
    return DrainReport(outcomes=outcomes, complete=supervisor.complete, drain_s=supervisor.drain_s)


def _log_to_stderr(*, as_json: bool) -> None:
    handler: logging.Handler
    if as_json:
        from isthmus.runtime.server.json_log import JsonFormatter

        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
    else:
        from rich.logging import RichHandler

        # The console of the progress line, which another one would tear; silenced, it shows no warnings.
        shown = errors if console.quiet else console
        handler = RichHandler(console=shown, show_path=False, markup=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING if console.quiet else logging.INFO, handlers=[handler])
