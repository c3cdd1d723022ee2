"""The status file: how a running agent fares, for `isthmus agent status` and whoever else wants to look.

One JSON object, replaced as a whole about once a second, so that a reader sees an old state or a new one and
never half of one. A file that has not changed for some seconds is that of an agent that was killed or hangs.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.errors import ArtifactError

STATUS_SCHEMA_VERSION = 1


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A running agent at one instant. Durations in seconds, rates in bytes per second; None: not known.

    Attributes:
        pid: Its process.
        written_unix_s: When this was written, seconds since 1970.
        uptime_s: Since the run began.
        state: "running"; "ended" in the last status of a run.
        isthmus_version: Of the agent.
        bundle, bundle_digest: What it runs.
        source: Where its frames come from.
        policy: How points are chosen.
        provider: What computes the heads.
        servers: All it may use, the preferred first.
        server: The one it is connected to, or was last; None before the first connection.
        connected: There is a connection now.
        connections: How many were made.
        rate_bytes_per_s: What is believed of the uplink.
        rtt_s: Round trip of an empty message.
        server_load: Share of its time in which the server computes.
        fps, deadline_s: What it was told.
        point: What was sent last.
        captured: Frames so far.
        outcomes: Frames per outcome; with `open` they add up to `captured`.
        open: Frames that have not ended.
        accuracy: Share of right answers among those in time whose truth is known.
        latency_p50_s, latency_p90_s, latency_p99_s: From capture to answer.
        mean_payload_bytes: Over the frames that were sent.
        temperature_c: Of the hottest computing part.
        throttled: Whether the device runs slower than it could.
        power_w: Watts now, over about a second; `idle_w` those before the run.
        energy_j: Joules since the run began; modelled if `energy_source`, the meter, begins with "model:".
        events_lost, results_lost: What could not be written or handed out.
        last_note: The last thing that changed, in words: why there is no connection, for example.
        schema_version: Of this struct.
    """

    pid: int
    written_unix_s: float
    uptime_s: float
    state: str
    isthmus_version: str
    bundle: str
    bundle_digest: str
    source: str
    policy: str
    provider: str
    servers: tuple[str, ...]
    server: str | None
    connected: bool
    connections: int
    rate_bytes_per_s: float | None
    rtt_s: float | None
    server_load: float | None
    fps: float
    deadline_s: float
    point: OperatingPoint | None
    captured: int
    outcomes: dict[str, int]
    open: int
    accuracy: float | None
    latency_p50_s: float | None
    latency_p90_s: float | None
    latency_p99_s: float | None
    mean_payload_bytes: float | None
    temperature_c: float | None
    throttled: bool | None
    events_lost: int
    results_lost: int
    last_note: str
    power_w: float | None = None
    idle_w: float | None = None
    energy_j: float | None = None
    energy_source: str | None = None
    schema_version: int = STATUS_SCHEMA_VERSION


def write_status(path: Path, status: AgentStatus) -> None:
    """Replace the file at `path`.

    Raises:
        OSError: If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{status.pid}")
    try:
        partial.write_bytes(msgspec.json.encode(status) + b"\n")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read_status(path: str | os.PathLike[str]) -> AgentStatus:
    """Return the status in the file `path`.

    Raises:
        ArtifactError: If there is none, it is of another version, or the file is something else.
    """
    file = Path(path)
    try:
        content = file.read_bytes()
        version = msgspec.json.decode(content, type=_Version).schema_version
        if version != STATUS_SCHEMA_VERSION:
            raise ArtifactError(
                f"{file}: status schema {version}, this Isthmus reads {STATUS_SCHEMA_VERSION}"
            )
        return msgspec.json.decode(content, type=AgentStatus)
    except OSError as error:
        raise ArtifactError(
            f"{file}: {error.strerror or error}; start the agent with --status {file}"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{file}: not the status of an agent ({error})") from None


class _Version(msgspec.Struct):
    schema_version: int
