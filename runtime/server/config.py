"""What `isthmus serve` is told, read once and checked once."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.wire import MAX_MESSAGE_BYTES


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The configuration of one server process.

    Attributes:
        bundles: Bundle directories; each is served under its manifest's name.
        host: Address to bind. Anything but this host's loopback needs `insecure`, for there is no TLS yet.
        port: TCP port; 0 = any free one.
        threads: Cores one tail may use, and threads that decode payloads.
        max_batch: Most latents in one run of a tail, and in one request.
        queue_frames: Most latents of one bundle that wait for its tail; more are refused as busy. At least
            `max_batch`, or a request of that size would be refused for ever.
        stream_window: Most frames of one stream in flight; beyond it the stream is not read.
        max_rpcs: Most calls (streams included) served at once.
        max_message_bytes: Largest message taken or sent.
        grace_s: Seconds that accepted frames have to be answered when the server stops.
        insecure: Allow plain text beyond loopback.

    Raises:
        InputError: If a value is out of range.
        NetworkError: If `host` is no address of this kind.
    """

    bundles: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 8001
    threads: int = field(default_factory=usable_cores)
    max_batch: int = 32
    queue_frames: int = 256
    stream_window: int = 64
    max_rpcs: int = 1024
    max_message_bytes: int = MAX_MESSAGE_BYTES
    grace_s: float = 5.0
    insecure: bool = False

    def __post_init__(self) -> None:
        if not self.bundles:
            raise InputError("no bundle to serve; name at least one bundle directory")
        limits = {
            "--port": (self.port, 0, 65_535),
            "--threads": (self.threads, 1, 1024),
            "--max-batch": (self.max_batch, 1, 4096),
            "--queue": (self.queue_frames, 1, 1_000_000),
            "stream_window": (self.stream_window, 1, 100_000),
            "max_rpcs": (self.max_rpcs, 1, 1_000_000),
            "--max-message-bytes": (self.max_message_bytes, 1024, 1 << 30),
        }
        for name, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise InputError(f"{name} {value} is out of range; give {low} to {high}")
        if self.queue_frames < self.max_batch:
            raise InputError(
                f"--queue {self.queue_frames} is less than --max-batch {self.max_batch}: a request "
                f"of that many latents would never fit; give --queue {self.max_batch} or more, "
                "or a smaller --max-batch"
            )
        if not 0.0 <= self.grace_s <= 3600.0:
            raise InputError(f"--grace {self.grace_s:g}s is out of range; give 0s to 1h")
        if not self.insecure and not _is_loopback(self.host):
            raise InputError(
                f"--host {self.host} is reachable from other hosts and this server has no TLS yet; "
                "use a loopback address behind a tunnel, or say --insecure on a network you trust"
            )

    @property
    def address(self) -> str:
        """`host:port` as gRPC takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NetworkError(
            f"--host {host}: {error.strerror or error}; give an address of this host"
        ) from None
    return all(ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_loopback for entry in found)
