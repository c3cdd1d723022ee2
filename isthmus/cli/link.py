"""`isthmus link`: stand between agent and server and shape what the agent sends."""

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
    from isthmus.runtime.links import RateTrace, ShapingProxy


def command(
    target: Annotated[str, typer.Option(help="HOST:PORT to forward to: the server.")],
    listen: Annotated[
        str, typer.Option(help="HOST:PORT to listen on; port 0 = any free one.")
    ] = "127.0.0.1:0",
    trace: Annotated[
        str, typer.Option(help="Uplink rate: a trace file, constant:RATE, step:RATE@DURATION,... or outage.")
    ] = "outage",
    downlink: Annotated[str | None, typer.Option(help="Downlink rate, likewise [default: no limit].")] = None,
    delay: Annotated[str, typer.Option(help="Delay added one way, in each direction.")] = "10ms",
    events: Annotated[Path | None, typer.Option(help="Event log that takes the uplink's true rate.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Stand between agent and server and shape the link after a trace, until SIGTERM or Ctrl-C.

    Prints one line on standard output when it takes connections, and one when it has stopped. All connections
    share the link; the trace begins with the first of them and repeats.
    """
    from isthmus.runtime.events import EventLog
    from isthmus.runtime.links import ShapingProxy, load_trace
    from isthmus.runtime.units import parse_duration_s

    listen_address, target_address = _address("--listen", listen, 0), _address("--target", target, 1)
    uplink = load_trace(trace)
    back = None if downlink is None else load_trace(downlink)
    delay_s = parse_duration_s(delay)
    log = None if events is None else EventLog(events, on_failed=_say_log_failed)
    proxy = ShapingProxy(uplink, downlink=back, delay_s=delay_s, events=log)
    try:
        asyncio.run(_forward(proxy, listen_address, target_address, uplink, as_json=as_json))
    finally:
        if log is not None:
            log.close()
    up_bytes, down_bytes = proxy.delivered_bytes
    if as_json:
        counts = {"connections": proxy.connections, "up_bytes": up_bytes, "down_bytes": down_bytes}
        _print(json.dumps({"event": "stopped", **counts}))
    else:
        _print(f"stopped after {proxy.connections} connections: {up_bytes} bytes up, {down_bytes} down")


async def _forward(
    proxy: ShapingProxy,
    listen: tuple[str, int],
    target: tuple[str, int],
    uplink: RateTrace,
    *,
    as_json: bool,
) -> None:
    from isthmus.runtime.units import format_duration, format_rate

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = await proxy.start(*listen, *target)
    if as_json:
        _print(json.dumps({"event": "ready", "port": port, "trace": uplink.name}))
    else:
        rate, lasts = format_rate(uplink.mean_rate), format_duration(uplink.duration_s)
        _print(f"ready on {listen[0]}:{port} for {target[0]}:{target[1]}: {uplink.name}, {rate} over {lasts}")
    await stop.wait()
    await proxy.close()


def _address(flag: str, text: str, least_port: int) -> tuple[str, int]:
    from isthmus.runtime.errors import InputError

    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not least_port <= int(port) <= 65_535:
        raise InputError(f"{flag} {text!r}: give HOST:PORT, for example 127.0.0.1:8001")
    return host.strip("[]"), int(port)


def _say_log_failed(reason: str) -> None:
    console.print(f"event log: {reason}; forwarding goes on without it", markup=False, soft_wrap=True)


def _print(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever started us is gone; forwarding and stopping go on without it
        sys.stdout = sys.stderr
