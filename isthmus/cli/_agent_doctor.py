"""`isthmus agent doctor` and `isthmus agent bench-link`: is the device fit, and the way to its servers?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli._common import JsonFlag, out, print_json
from isthmus.cli._progress import progress
from isthmus.cli._security_flags import AuthorityFlag, CertificateFlag, InsecureFlag, KeyFlag, TokenFlag

if TYPE_CHECKING:
    from isthmus.device_agents.config import AgentConfig
    from isthmus.device_agents.doctor import Finding
    from isthmus.runtime.bundle import Bundle

_STYLE = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="The bundle the agent is to run.")] = None,
    server: Annotated[str | None, typer.Option(help="HOST:PORT of the tail server.")] = None,
    source: Annotated[str | None, typer.Option(help="Where frames are to come from.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name on the server.")] = None,
    energy: Annotated[str | None, typer.Option(help="The energy meter that is to be read.")] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Allow plain text to a server that is not this host.")
    ] = None,
    authority: AuthorityFlag = None,
    certificate: CertificateFlag = None,
    key: KeyFlag = None,
    token_file: TokenFlag = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The agent's TOML file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Examine this device, the agent's settings, and the way to its servers.

    Changes nothing; sends each server at most 200 kB. Every line says ok, warn (it works, worse than it
    could) or fail (the agent would not do its work), with a remedy. Exit code 0 without a fail, 7 with one.
    """
    from isthmus.device_agents.doctor import examine_machine, examine_setup
    from isthmus.runtime.errors import GateError

    flags = {"bundle": bundle, "server": server, "source": source, "model": model, "insecure": insecure}
    flags["energy"] = energy
    flags |= {"authority": authority, "certificate": certificate, "key": key, "token_file": token_file}
    settings, unset = _settings(flags, config)
    with progress("examining the settings") as show:
        setup, loaded = examine_setup(settings)
        findings = [*setup, *unset, *examine_machine()]
        model = settings.model or (loaded.manifest.name if loaded else "")
        show(f"examining {', '.join(settings.servers)}")
        findings += asyncio.run(_servers(settings, model, loaded))
    failed = [finding.name for finding in findings if finding.level == "fail"]
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings], "failed": failed})
    else:
        _print(findings)
    if failed:
        raise GateError(f"doctor: {', '.join(failed)}: failed; see the remedies above")


def bench_link(
    server: Annotated[str, typer.Argument(help="HOST:PORT of a running server.")],
    model: Annotated[
        str, typer.Option(help="A model it has; without it messages are refused, and timed so.")
    ] = "",
    max_bytes: Annotated[int, typer.Option(help="Send at most so many bytes.")] = 1_000_000,
    duration: Annotated[str, typer.Option(help="Take at most about so long.")] = "10s",
    authority: AuthorityFlag = None,
    certificate: CertificateFlag = None,
    key: KeyFlag = None,
    token_file: TokenFlag = None,
    insecure: InsecureFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure the way to a server: round trips, and the uplink's rate from short bursts.

    Sends random bytes, no features, and costs a server of ours no computation. At most 16 MB and 60 s: it is
    a probe, no load generator.
    """
    from isthmus.device_agents.operation.link_test import measure_link
    from isthmus.runtime.units import format_bytes, format_duration, format_rate, parse_duration_s
    from isthmus.runtime.wire.tls import ClientSecurity, check_address

    check_address(server)
    security = ClientSecurity(
        authority=authority, certificate=certificate, key=key, token_file=token_file, insecure=insecure
    )
    security.check(server)
    longest_s = parse_duration_s(duration)
    with progress(f"measuring the way to {server}"):
        report = asyncio.run(
            measure_link(server, model=model, most_bytes=max_bytes, longest_s=longest_s, security=security)
        )
    if as_json:
        print_json({**asdict(report), "rate_bytes_per_s": report.rate_bytes_per_s})
        return
    rtt = report.rtt_s
    shown = [format_duration(rtt[round(share * (len(rtt) - 1))]) for share in (0.0, 0.5, 0.9, 1.0)]
    lines = [f"RTT min/p50/p90/max: {' / '.join(shown)} ({len(rtt)} calls)"]
    if report.rates:
        spread = f"{format_rate(min(report.rates))} to {format_rate(max(report.rates))}"
        clock = "the server" if report.clock == "server" else "completed calls"
        lines.append(
            f"uplink: {format_rate(report.rate_bytes_per_s)} (median of {len(report.rates)} trains, "
            f"{spread}; timed by {clock})"
        )
    else:
        lines.append("uplink: not measured; allow more time or bytes")
    lines.append(f"{format_bytes(report.sent_bytes)} sent in {format_duration(report.elapsed_s)}")
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def _settings(flags: Mapping[str, object], file: Path | None) -> tuple[AgentConfig, list[Finding]]:
    """Return the settings, and a finding if there is no source: the rest can be examined without one."""
    from isthmus.device_agents.config import read_config
    from isthmus.device_agents.doctor import Finding
    from isthmus.runtime.errors import InputError

    try:
        return read_config(flags, file=file), []
    except InputError as error:
        if not str(error).startswith("source is not set"):
            raise
        missing = Finding(
            name="source", level="warn", text="not set", remedy="give --source, or source in the file"
        )
        return read_config({**flags, "source": "synthetic"}, file=file), [missing]


async def _servers(settings: AgentConfig, model: str, bundle: Bundle | None) -> list[Finding]:
    from isthmus.device_agents.doctor import examine_server

    found = []
    # One after the other: link tests at the same time would measure each other.
    for server in settings.servers:
        found += await examine_server(
            server,
            model=model,
            manifest=None if bundle is None else bundle.manifest,
            digest=None if bundle is None else bundle.digest,
            deadline_s=settings.deadline_s,
            timeout_s=settings.connect_timeout_s,
            security=settings.security,
        )
    return found


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    for finding in findings:
        line = Text(f"{finding.level:<5}", style=_STYLE[finding.level])
        line.append(f"{finding.name}: {finding.text}", style="default")
        out.print(line, soft_wrap=True)
        if finding.remedy:
            out.print(f"     → {finding.remedy}", markup=False, soft_wrap=True)
