"""What `isthmus serve` is told, read once and checked once."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.wire import MAX_MESSAGE_BYTES

BackendChoice = Literal["auto", "onnxruntime", "torch"]
ProviderChoice = Literal["auto", "cpu", "cuda", "tensorrt"]
Precision = Literal["fp32", "bf16", "fp16"]


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The configuration of one server process.

    Attributes:
        bundles: Bundle directories; each is served under its manifest's name. May be empty with `repository`.
        host: Address to bind. Anything but this host's loopback needs a certificate, or `insecure`.
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
        certificate, key: The server's PEM files; TLS is spoken when they are given.
        client_authority: PEM file of the authority whose certificates clients must show (mutual TLS).
        revoked: File of revoked client certificates; None: `revoked.txt` beside `client_authority`, if any.
        token_file: Bearer tokens, one `name token` a line; a client must show one of them.
        allow: Who may use which bundle: a file, or bundle → identities; None: every identity every bundle.
        max_connections: Most connections at once.
        max_streams_per_client: Most streams of one client at once: of an identity or, without, an address.
        client_credit: Most frames of one client in flight, over all its streams.
        metrics_host, metrics_port: Where Prometheus reads; a port of None: nowhere, 0: any free one.
        processes: Processes that share the port; 1: this one alone, without a supervisor.
        hung_s: Seconds without a sign of life after which one of several processes is killed and replaced.
        backend: What computes tails; "auto": ONNX Runtime.
        provider: The device and engine; "auto": the fastest that works.
        precision: Of the torch backend's arithmetic; what is not fp32 must pass a gate on accuracy.
        repository: Directory whose sub-folders are bundles that may be loaded and unloaded while serving.
        watch: Load a bundle again when its manifest changes.
        json_logs: One JSON object per line of the log.
        traces: Whether OpenTelemetry's spans are made, where the extra `otel` is installed.

    Raises:
        InputError: If a value is out of range or contradicts another.
        NetworkError: If `host` is no address of this kind.
    """

    bundles: tuple[Path, ...] = ()
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
    certificate: Path | None = None
    key: Path | None = None
    client_authority: Path | None = None
    revoked: Path | None = None
    token_file: Path | None = None
    allow: Path | Mapping[str, tuple[str, ...]] | None = None
    max_connections: int = 1024
    max_streams_per_client: int = 256
    client_credit: int = 256
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    processes: int = 1
    hung_s: float = 30.0
    backend: BackendChoice = "auto"
    provider: ProviderChoice = "auto"
    precision: Precision = "fp32"
    repository: Path | None = None
    watch: bool = False
    json_logs: bool = False
    traces: bool = False

    def __post_init__(self) -> None:
        if not self.bundles and self.repository is None:
            raise InputError("no bundle to serve; name at least one bundle directory, or give --repository")
        limits = {
            "--port": (self.port, 0, 65_535),
            "--threads": (self.threads, 1, 1024),
            "--max-batch": (self.max_batch, 1, 4096),
            "--queue": (self.queue_frames, 1, 1_000_000),
            "stream_window": (self.stream_window, 1, 100_000),
            "max_rpcs": (self.max_rpcs, 1, 1_000_000),
            "--max-message-bytes": (self.max_message_bytes, 1024, 1 << 30),
            "--max-connections": (self.max_connections, 1, 1_000_000),
            "--max-streams-per-client": (self.max_streams_per_client, 1, 100_000),
            "--client-credit": (self.client_credit, 1, 1_000_000),
            "--metrics-port": (self.metrics_port or 0, 0, 65_535),
            "--processes": (self.processes, 1, 256),
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
        if not 2.0 <= self.hung_s <= 3600.0:
            raise InputError(f"--hung-after {self.hung_s:g}s is out of range; give 2s to 1h")
        self._check_choices()
        self._check_security()

    @property
    def address(self) -> str:
        """`host:port` as gRPC takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach the server."""
        return _is_loopback(self.host)

    def _check_choices(self) -> None:
        choices = (("backend", BackendChoice), ("provider", ProviderChoice), ("precision", Precision))
        for name, choice in choices:
            known, value = get_args(choice), getattr(self, name)
            if value not in known:
                raise InputError(f"--{name} {value!r} is unknown; give {', '.join(known)}")
        if self.precision != "fp32" and self.backend != "torch":
            raise InputError(
                f"--precision {self.precision} is for the torch backend; give --backend torch as well"
            )
        if self.backend == "torch" and self.provider == "tensorrt":
            raise InputError("--provider tensorrt is for the onnxruntime backend; give cpu, cuda or auto")

    def _check_security(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("--certificate and --key belong together; give both, or neither")
        if self.client_authority is not None and self.certificate is None:
            raise InputError("--client-authority needs TLS; give --certificate and --key as well")
        if self.revoked is not None and self.client_authority is None:
            raise InputError("--revoked is about clients' certificates; give --client-authority as well")
        if self.insecure and self.certificate is not None:
            raise InputError("--insecure is plain text and --certificate is TLS; give one of them")
        if not self.insecure and self.certificate is None and not self.is_loopback:
            raise InputError(
                f"--host {self.host} is reachable from other hosts; give --certificate and --key for TLS "
                "('isthmus certs' makes them), or say --insecure on a network you trust"
            )


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NetworkError(
            f"--host {host}: {error.strerror or error}; give an address of this host"
        ) from None
    return all(ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_loopback for entry in found)
