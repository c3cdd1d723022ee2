"""`isthmus link`: an emulated link between real processes, as a proxy or as a network namespace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli._common import JsonFlag, console
from isthmus.cli._group import verb_group

if TYPE_CHECKING:
    from isthmus.runtime.links import RateTrace, ShapingProxy
    from isthmus.runtime.links.netns import NamespaceLink
    from isthmus.runtime.steering import SteeringSocket

_Trace = Annotated[
    str,
    typer.Option(help="Uplink rate: a trace file or a generator, as 'isthmus trace --help' lists them."),
]
_Downlink = Annotated[str | None, typer.Option(help="Downlink rate, likewise [default: no limit].")]
_Delay = Annotated[str, typer.Option(help="Delay added one way, in each direction.")]
_Events = Annotated[Path | None, typer.Option(help="Event log that takes the uplink's true rate.")]
# Above it an emulated link would be as good as none.
_FASTEST_BYTES_PER_S = 1e9


def proxy(
    target: Annotated[str, typer.Option(help="HOST:PORT to forward to: the server.")],
    listen: Annotated[
        str, typer.Option(help="HOST:PORT to listen on; port 0 = any free one.")
    ] = "127.0.0.1:0",
    trace: _Trace = "outage",
    downlink: _Downlink = None,
    delay: _Delay = "10ms",
    events: _Events = None,
    control: Annotated[
        Path | None, typer.Option(help="Socket file for 'isthmus link set' and the dashboard [none].")
    ] = None,
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
    shaping = ShapingProxy(uplink, downlink=back, delay_s=delay_s, events=log)
    try:
        asyncio.run(
            _forward(shaping, listen_address, target_address, uplink, control=control, as_json=as_json)
        )
    finally:
        if log is not None:
            log.close()
    up_bytes, down_bytes = shaping.delivered_bytes
    if as_json:
        counts = {"connections": shaping.connections, "up_bytes": up_bytes, "down_bytes": down_bytes}
        _print(json.dumps({"event": "stopped", **counts}))
    else:
        _print(f"stopped after {shaping.connections} connections: {up_bytes} bytes up, {down_bytes} down")


def netns(
    command: Annotated[
        list[str],
        typer.Argument(help="Program and arguments, after --; {host} stands for this host's address."),
    ],
    trace: _Trace = "outage",
    downlink: _Downlink = None,
    delay: _Delay = "10ms",
    loss: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of packets lost, each direction.")
    ] = 0.0,
    queue_bytes: Annotated[
        int, typer.Option("--queue-bytes", min=1500, help="Bytes that may wait in front of the link.")
    ] = 128_000,
    events: _Events = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a command in a network namespace whose only way out is the shaped link (root, Linux).

    Real TCP end to end: loss and full queues are what it meets. The command reaches this host, and nothing
    else, at the address that replaces {host} in its arguments and stands in ISTHMUS_LINK_HOST; let the
    server listen there (`isthmus serve … --host 0.0.0.0 --insecure`). Counts come on standard error when the
    command has ended; the exit code is the command's. Nothing remains, even if this process is killed.
    """
    from isthmus.runtime.events import EventLog
    from isthmus.runtime.links import load_trace
    from isthmus.runtime.links.netns import NamespaceLink
    from isthmus.runtime.units import parse_duration_s

    uplink = load_trace(trace)
    back = None if downlink is None else load_trace(downlink)
    delay_s = parse_duration_s(delay)
    log = None if events is None else EventLog(events, on_failed=_say_log_failed)
    try:
        with NamespaceLink(
            uplink, downlink=back, delay_s=delay_s, loss=loss, queue_bytes=queue_bytes, events=log
        ) as link:
            code = _run_inside(link, command)
    finally:
        if log is not None:
            log.close()
    _show_counts(link, code, as_json=as_json)
    raise typer.Exit(code)


def _run_inside(link: NamespaceLink, command: list[str]) -> int:
    words = [word.replace("{host}", link.host) for word in command]
    process = link.start(words, env={**os.environ, "ISTHMUS_LINK_HOST": link.host})
    # The terminal's Ctrl-C reaches the command by itself; what is sent to us alone is passed on.
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        while True:
            try:
                code: int = process.wait()
                break
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code


def _show_counts(link: NamespaceLink, code: int, *, as_json: bool) -> None:
    counts = {
        name: {"bytes": way.delivered_bytes, "lost": way.lost, "dropped": way.dropped}
        for name, way in (("up", link.up), ("down", link.down))
    }
    if as_json:
        console.print_json(json.dumps({"event": "stopped", "backend": "netns", "exit_code": code, **counts}))
        return
    told = ", ".join(
        f"{name} {way['bytes']} bytes ({way['lost']} packets lost, {way['dropped']} dropped)"
        for name, way in counts.items()
    )
    console.print(f"netns link: {told}", markup=False, soft_wrap=True)


async def _forward(
    proxy: ShapingProxy,
    listen: tuple[str, int],
    target: tuple[str, int],
    uplink: RateTrace,
    *,
    control: Path | None,
    as_json: bool,
) -> None:
    from isthmus.runtime.units import format_duration, format_rate

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = await proxy.start(*listen, *target)
    steering = None if control is None else _steering(proxy, control, uplink.name)
    if steering is not None:
        await steering.start()
    if as_json:
        _print(json.dumps({"event": "ready", "port": port, "trace": uplink.name}))
    else:
        rate, lasts = format_rate(uplink.mean_rate), format_duration(uplink.duration_s)
        _print(f"ready on {listen[0]}:{port} for {target[0]}:{target[1]}: {uplink.name}, {rate} over {lasts}")
    await stop.wait()
    if steering is not None:
        await steering.close()
    await proxy.close()


def _steering(proxy: ShapingProxy, control: Path, name: str) -> SteeringSocket:
    from isthmus.runtime.steering import Knob, SteeringSocket

    rate = Knob(
        name="rate_bytes_per_s",
        low=0.0,
        high=_FASTEST_BYTES_PER_S,
        read=lambda: (proxy.rate_bytes_per_s, proxy.set_rate_bytes_per_s is not None),
        write=proxy.set_rate,
    )
    return SteeringSocket(control, kind="link", name=name, knobs=[rate])


def set_link(
    control: Annotated[Path, typer.Argument(help="The --control file of a link that runs.")],
    rate: Annotated[
        str | None, typer.Option(help="Its uplink's rate from now on, e.g. 20kB or 1.5Mbit.")
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Follow the trace again, as if it had never been left.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Set the rate of a link that runs, or give it back to its trace; with neither, say what holds."""
    from isthmus.runtime.errors import InputError
    from isthmus.runtime.steering import steer
    from isthmus.runtime.units import format_rate, parse_rate_bytes_per_s

    if rate is not None and trace:
        raise InputError("--rate and --trace exclude each other; give one")
    wish = {"rate_bytes_per_s": None if rate is None else parse_rate_bytes_per_s(rate)}
    said = asyncio.run(steer(control, wish if rate is not None or trace else {}))
    (knob,) = said.knobs
    if as_json:
        _print(json.dumps({"name": said.name, knob.name: knob.value, "is_set": knob.is_set}))
    else:
        _print(f"{format_rate(knob.value)} ({'set' if knob.is_set else f'by the trace {said.name}'})")


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


app = verb_group(
    "proxy",
    {"proxy": proxy, "netns": netns, "set": set_link},
    "Emulate a link between real processes. 'isthmus link --target HOST:PORT' means 'isthmus link proxy'.",
)
