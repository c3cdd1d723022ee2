"""The agent's configuration: one frozen object per process, read once; flags > environment > TOML file.

Decides what a valid value is. How settings are written, and where they are read, is `settings`.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.device_agents.bank import ProviderChoice
from isthmus.device_agents.delivery.event_post import Dashboard
from isthmus.device_agents.settings import converted, read_layers
from isthmus.runtime.errors import InputError
from isthmus.runtime.wire.tls import ClientSecurity, check_address

_LONGEST_QUEUE = 100_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything an agent is told.

    Attributes:
        source: Where frames come from, for people and the log.
        bundle: Directory of the bundle; None: the caller has it.
        name: What this device calls itself in its events; empty: the name of the host.
        server: HOST:PORT of the tail server that is preferred: the first of `servers`.
        servers: All of them, in the order in which they are tried; empty: `server` alone.
        failback_s: Seconds for which a server that is preferred must have been ready before the agent returns
            to it.
        fps: Frames captured per second.
        deadline_s: Seconds from capture within which a frame must be answered.
        queue: "newest": of the frames that wait, the newest is computed and the others are dropped;
            "fifo:N": up to N wait in their order, then the oldest is dropped.
        policy: Name of the policy, as `make_policy` takes it.
        objective: What the policy is after, as `make_policy` takes it.
        exit_confidence: The early exit answers at once when its softmax reaches this, in (0, 1]; None: never.
        frames: Stop after so many frames; None: no such limit.
        duration_s: Stop after so many seconds; None: no such limit.
        events: File of the event log; None: no log.
        events_to: Address of a dashboard that gets the events as well; None: none does.
        events_token_file: File with the bearer token of that dashboard.
        control: Socket file that takes a new deadline while the run goes on; None: there is none.
        results: Where answers go: "-" (standard output), a file of JSON lines, or mqtt://HOST:PORT/TOPIC.
        status: File rewritten once a second for `isthmus agent status`; None: no such file.
        model: Name of the model on the server; None: the bundle's.
        codec: Name of the codec; None: the one the bundle prefers.
        threads: ONNX Runtime threads per session.
        provider: ONNX Runtime execution provider.
        insecure: Speak plain text to a server that is not this host.
        authority: PEM file of the authority that vouches for servers; None: those this system trusts.
        certificate, key: This device's PEM files, for servers that ask for them.
        token_file: File with this device's bearer token, for servers that ask for one.
        connect_timeout_s: Seconds one attempt to reach a server may take.
        retry_cap_s: No pause between attempts has a ceiling beyond it.
        thermal: Whether the device's temperature is read: "auto" (where there is a sensor) or "off".
        energy: The energy meter, as `open_meter` takes it: "auto" (a sensor that can be read), "none", …
        energy_idle_s: Seconds for which the device is watched at rest before the run, where there is a meter;
            0: not at all.
        device: Profile of this device, for its radio and its watts; None: that of `energy`'s model, if any.

    Raises:
        InputError: If a value cannot be used.
    """

    source: str
    bundle: Path | None = None
    name: str = ""
    server: str = "127.0.0.1:8001"
    servers: tuple[str, ...] = ()
    failback_s: float = 10.0
    fps: float = 30.0
    deadline_s: float = 0.15
    queue: str = "newest"
    policy: str = "expected-utility"
    objective: str = "accuracy"
    exit_confidence: float | None = None
    frames: int | None = None
    duration_s: float | None = None
    events: Path | None = None
    events_to: str | None = None
    events_token_file: Path | None = None
    control: Path | None = None
    results: str | None = None
    status: Path | None = None
    model: str | None = None
    codec: str | None = None
    threads: int = 1
    provider: ProviderChoice = "auto"
    insecure: bool = False
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    connect_timeout_s: float = 5.0
    retry_cap_s: float = 1.5
    thermal: str = "auto"
    energy: str = "auto"
    energy_idle_s: float = 2.0
    device: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "servers", self.servers or (self.server,))
        object.__setattr__(self, "server", self.servers[0])
        object.__setattr__(self, "name", self.name or _host_name())
        if not _NAME.fullmatch(self.name):
            raise InputError(f"name {self.name!r}: give 1 to 64 letters, digits, or any of . - _ @")
        _between("fps", self.fps, 0.01, 1000.0, "frames per second")
        _between("deadline", self.deadline_s, 0.001, 3600.0, "seconds")
        _between("connect_timeout", self.connect_timeout_s, 0.05, 600.0, "seconds")
        _between("retry_cap", self.retry_cap_s, 0.05, 3600.0, "seconds")
        _between("failback", self.failback_s, 0.0, 86_400.0, "seconds")
        _between("energy_idle", self.energy_idle_s, 0.0, 600.0, "seconds")
        _between("threads", self.threads, 1, 256, "threads")
        if self.exit_confidence is not None:
            # A softmax is never 0: everything would be answered here, and the link never used.
            _between("exit_confidence", self.exit_confidence, 0.01, 1.0, "(a share), or none")
        if self.thermal not in ("auto", "off"):
            raise InputError(f"thermal {self.thermal!r}: give auto or off")
        if self.frames is not None and self.frames < 1:
            raise InputError(f"frames {self.frames}: give 1 or more, or leave it out to run until Ctrl-C")
        if self.duration_s is not None and self.duration_s <= 0:
            raise InputError(
                f"duration {self.duration_s:g} s: give more than 0, or leave it out to run until Ctrl-C"
            )
        _queue_limit(self.queue)
        self._check_servers()
        if self.events_token_file is not None and self.events_to is None:
            raise InputError("--events-token-file is for --events-to; give both, or neither")
        _ = self.dashboard

    @property
    def profile(self) -> str | None:
        """The device's profile; None: none was named."""
        modelled = self.energy.removeprefix("model:") if self.energy.startswith("model:") else None
        return self.device or modelled

    @property
    def queue_limit(self) -> int | None:
        """Frames that may wait in queue mode; None: the newest wins."""
        return _queue_limit(self.queue)

    @property
    def security(self) -> ClientSecurity:
        """How this agent speaks to servers."""
        return ClientSecurity(
            authority=self.authority,
            certificate=self.certificate,
            key=self.key,
            token_file=self.token_file,
            insecure=self.insecure,
        )

    @property
    def dashboard(self) -> Dashboard | None:
        """The dashboard that gets the events."""
        if self.events_to is None:
            return None
        return Dashboard(
            url=self.events_to, name=self.name, token_file=self.events_token_file, authority=self.authority
        )

    def _check_servers(self) -> None:
        for server in self.servers:
            check_address(server)
            if self.servers.count(server) > 1:
                raise InputError(f"servers: {server} is listed twice; name each server once")
            self.security.check(server)


def read_config(
    flags: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> AgentConfig:
    """Return the configuration from `flags` (None: not given), the environment and a TOML `file`.

    Raises:
        InputError: If the file cannot be read, a name is unknown, or a value cannot be used.
    """
    return AgentConfig(**converted(read_layers(flags, environ=environ, file=file)))


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._@-]", "-", socket.gethostname()).strip("-._@")[:64] or "agent"


def _between(name: str, value: float, low: float, high: float, unit: str) -> None:
    # Written so that NaN, which compares false with everything, is refused too.
    if not low <= value <= high:
        raise InputError(f"{name} {value:g}: give {low:g} to {high:g} {unit}")


def _queue_limit(queue: str) -> int | None:
    if queue == "newest":
        return None
    mode, _, limit = queue.partition(":")
    if mode != "fifo" or not limit.isdecimal() or not 1 <= int(limit[:9]) <= _LONGEST_QUEUE:
        raise InputError(f"queue {queue!r}: give newest, or fifo:N with N from 1 to {_LONGEST_QUEUE}")
    return int(limit)
