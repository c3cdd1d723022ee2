"""`isthmus agent install-service` and `isthmus agent status`: the agent as a service, and how it fares."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli._common import JsonFlag, console, out, print_json

if TYPE_CHECKING:
    from isthmus.device_agents.operation.status import AgentStatus

# An agent writes once a second; this much later it hangs, or it was killed.
_STALE_S = 5.0
_UNIT_DIR = Path("/etc/systemd/system")


def status(
    file: Annotated[
        Path | None, typer.Argument(help="The status file [that of --config or the service].")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The agent's TOML file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say how a running agent fares.

    Reads the file the agent was told to write with --status, ISTHMUS_AGENT_STATUS or `status` in its file;
    without any of these that of the installed service. Exit code 0 if the agent runs or has ended in order,
    4 if there is no status, 7 if it is stale: the agent was killed, or hangs.
    """
    from isthmus.device_agents.operation.status import read_status
    from isthmus.runtime.errors import GateError
    from isthmus.runtime.units import format_duration

    path = file or _status_file(config)
    found = read_status(path)
    age_s = max(0.0, time.time() - found.written_unix_s)
    stale = found.state != "ended" and age_s > _STALE_S
    if as_json:
        import msgspec

        print_json({"file": str(path), "age_s": age_s, "stale": stale, **msgspec.to_builtins(found)})
    else:
        for line in _lines(found, age_s):
            out.print(line, markup=False, soft_wrap=True)
    if stale:
        what = "hangs" if _is_alive(found.pid) else "was killed"
        raise GateError(
            f"{path}: written {format_duration(age_s)} ago, so the agent (process {found.pid}) {what}; "
            "start it again, or see its log"
        )


def install_service(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The agent's TOML file; it must name a bundle.")
    ],
    name: Annotated[str, typer.Option(help="Name of the service.")] = "isthmus-agent",
    unit_dir: Annotated[Path, typer.Option(help="Where units are.")] = _UNIT_DIR,
    user: Annotated[str | None, typer.Option(help="Run as this user [one that systemd makes up].")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the unit and write nothing.")] = False,
    enable: Annotated[bool, typer.Option("--enable", help="Also start it, now and at every boot.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a systemd unit that runs the agent with the settings of a file.

    The service restarts when it fails or its watchdog barks, runs as a user of its own and may write its
    state directory alone. The unit is verified with systemd-analyze where that exists. systemctl is called
    only with --enable.
    """
    from isthmus.device_agents.config import read_config
    from isthmus.device_agents.operation.service import present_groups, unit_text, unreadable, verify_unit
    from isthmus.runtime.errors import InputError

    file = config.expanduser().resolve()
    # What is in this shell's environment is not in the service's.
    settings = read_config({}, file=file, environ={})
    text = unit_text(settings, file, name=name, user=user, groups=present_groups())
    verified = verify_unit(text, name)
    complaints = [f"systemd-analyze: {line}" for line in verified or ()]
    complaints += () if user else unreadable(settings, file)
    if dry_run and not as_json:
        out.print(text, markup=False, highlight=False, soft_wrap=True, end="")
    unit = unit_dir / f"{name}.service"
    if not dry_run:
        try:
            unit.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{unit}: {error.strerror or error}; use sudo, or another --unit-dir") from None
    if as_json:
        print_json(
            {
                "unit": str(unit),
                "written": not dry_run,
                "verified": verified is not None,
                "complaints": complaints,
                "text": text,
            }
        )
    for line in complaints:
        console.print(line, style="yellow", markup=False, soft_wrap=True)
    if verified is None:
        console.print("the unit was not verified: there is no systemd-analyze here", markup=False)
    if dry_run:
        return
    if enable:
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", unit.name)
    elif not as_json:
        out.print(f"{unit}: written; start it with: systemctl enable --now {unit.name}", soft_wrap=True)


def _systemctl(*arguments: str) -> None:
    from isthmus.runtime.errors import InputError

    try:
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"systemctl: {error.strerror or error}; this system runs no systemd") from None
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise InputError(
            f"systemctl {' '.join(arguments)}: {said or done.returncode}; use sudo, or see its log"
        )


def _status_file(config: Path | None) -> Path:
    from isthmus.device_agents.config import read_config
    from isthmus.device_agents.operation.service import DEFAULT_STATUS
    from isthmus.runtime.errors import InputError

    if config is not None:
        settings = read_config({}, file=config)
        if settings.status is None:
            raise InputError(f'{config}: sets no status file; add status = "/path/to/status.json"')
        return settings.status
    return Path(os.environ.get("ISTHMUS_AGENT_STATUS") or DEFAULT_STATUS)


def _lines(found: AgentStatus, age_s: float) -> list[str]:
    from isthmus.runtime.units import format_duration, format_rate

    def duration(seconds: float | None) -> str:
        return "unknown" if seconds is None else format_duration(seconds)

    outcomes = ", ".join(f"{count} {name}" for name, count in found.outcomes.items() if count)
    link = "connected to" if found.connected else "not connected to"
    lines = [
        f"{found.state} for {duration(found.uptime_s)}, process {found.pid}; written {duration(age_s)} ago",
        f"bundle {found.bundle} on {found.provider}; {found.source} at {found.fps:g} frames/s",
        f"{link} {found.server or ', '.join(found.servers)}; {found.connections} connections",
        f"uplink {format_rate(found.rate_bytes_per_s)}, RTT {duration(found.rtt_s)}",
        f"{found.captured} frames: {outcomes or 'none ended yet'}; {found.open} open",
    ]
    if found.latency_p50_s is not None:
        times = [found.latency_p50_s, found.latency_p90_s, found.latency_p99_s]
        deadline = duration(found.deadline_s)
        lines.append(f"latency p50/p90/p99: {' / '.join(map(duration, times))} (deadline {deadline})")
    if found.accuracy is not None:
        lines.append(f"accuracy of answers in time: {found.accuracy:.1%}")
    if found.temperature_c is not None or found.throttled:
        degrees = "" if found.temperature_c is None else f"{found.temperature_c:.0f} °C"
        lines.append(f"device {degrees}{' slowed down' if found.throttled else ''}")
    if found.energy_source is not None:
        lines.append(_energy(found, found.energy_source))
    if found.events_lost or found.results_lost:
        lines.append(f"{found.events_lost} events and {found.results_lost} results lost")
    if found.last_note:
        lines.append(f"last: {found.last_note}")
    return lines


def _energy(found: AgentStatus, source: str) -> str:
    from isthmus.runtime.energy import is_modelled

    how = "modelled" if is_modelled(source) else "measured"
    if found.energy_j is None:
        return f"energy unknown now ({source})"
    now = "" if found.power_w is None else f"{found.power_w:.2f} W now, "
    rest = "" if found.idle_w is None else f"{found.idle_w:.2f} W at rest, "
    return f"energy {now}{rest}{found.energy_j:.0f} J so far ({how}: {source})"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
