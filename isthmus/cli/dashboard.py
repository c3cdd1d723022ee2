"""`isthmus dashboard`: what agents and servers do now, in a browser."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli._common import JsonFlag, out
from isthmus.cli._group import verb_group


def run(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Event logs to follow, and folders in which they are or will be."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="HOST:PORT or URL of a server's metrics page ('isthmus serve --metrics-port')."),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option(help="--control file of a link or an agent: gives the page a slider."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond loopback it needs TLS and a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 = any free one.")] = 8050,
    name: Annotated[
        list[str] | None, typer.Option(help="Another name by which browsers call this host.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that may use sliders and send events.")
    ] = None,
    agents_file: Annotated[
        Path | None, typer.Option(help="Agents' tokens, one 'name token' a line: each sends its own events.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM file of the dashboard's certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let everybody on the network of --host read, in plain text.")
    ] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show live agents and servers in a browser until SIGTERM or Ctrl-C.

    Agents are known by their event logs ('isthmus agent --events FILE'), or send their events themselves
    ('isthmus agent --events-to http://HOST:PORT'); servers by their metrics. Read-only unless there is a
    token: the page asks for it, or takes it from the address behind '#token='. Prints one line on standard
    output when browsers are taken.
    """
    from isthmus.dashboard.running import serve_dashboard
    from isthmus.dashboard.settings import DashboardSettings

    settings = DashboardSettings(
        paths=tuple(paths or ()),
        metrics=tuple(metrics or ()),
        controls=tuple(control or ()),
        host=host,
        port=port,
        names=tuple(name or ()),
        token_file=token_file,
        agents_file=agents_file,
        certificate=certificate,
        key=key,
        insecure=insecure,
    )

    def on_ready(port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if settings.secure else 'http'}://{shown}:{port}/"
        _print(json.dumps({"event": "ready", "port": port, "url": url}) if as_json else f"ready on {url}")
        if open_page:
            import webbrowser

            token = settings.token()
            webbrowser.open(url if token is None else f"{url}#token={token}")

    serve_dashboard(settings, on_ready=on_ready)


def grafana(
    output: Annotated[Path | None, typer.Option("--out", help="File to write [standard output].")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the Grafana dashboard for servers that Prometheus scrapes, to import in Grafana.

    The file is JSON: without --out, --json changes nothing.
    """
    from importlib.resources import files

    from isthmus.runtime.errors import InputError

    text = files("isthmus.dashboard").joinpath("grafana.json").read_text(encoding="utf-8")
    if output is None:
        _print(text.rstrip("\n"))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output}: {error.strerror or error}; choose another --out") from None
    if as_json:
        _print(json.dumps({"file": str(output)}))
    else:
        out.print(str(output), markup=False, soft_wrap=True)


def _print(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever started us is gone; the page goes on without it
        sys.stdout = sys.stderr


app = verb_group(
    "run",
    {"run": run, "grafana": grafana},
    "Show live agents and servers in a browser. 'isthmus dashboard LOGS' means 'isthmus dashboard run LOGS'.",
)
