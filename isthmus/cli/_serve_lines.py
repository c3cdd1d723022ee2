"""What `isthmus serve` says on standard output: a line when it takes frames, a line when it has stopped."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.runtime.server import DrainReport, ReadyReport, ServerConfig


def said(report: ReadyReport, metrics_port: int | None) -> dict[str, Any]:
    """Return what a server that is ready says as JSON."""
    facts = {
        "event": "ready",
        "port": report.port,
        "models": list(report.models),
        "provider": report.providers[0] if report.providers else None,
        "providers": dict(zip(report.models, report.providers, strict=True)),
    }
    return facts if metrics_port is None else {**facts, "metrics_port": metrics_port}


def ready_line(said: dict[str, Any], config: ServerConfig) -> str:
    """Return the same for people."""
    models = ", ".join(f"{name} ({provider})" for name, provider in said["providers"].items()) or "no model"
    processes = f", {config.processes} processes" if config.processes > 1 else ""
    metrics = f"; metrics on {config.metrics_host}:{said['metrics_port']}" if "metrics_port" in said else ""
    return f"ready on {config.host}:{said['port']}{processes}: {models}{metrics}"


def stopped_line(report: DrainReport, *, as_json: bool) -> str:
    """Return what a server that has stopped says."""
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


def print_line(line: str) -> None:
    """Write `line` on standard output at once, as long as anybody reads it."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever started us is gone; serving and stopping go on without it
        sys.stdout = sys.stderr
