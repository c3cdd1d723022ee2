"""The server's life: bind, load, warm up, serve, drain.

Decides the order. The port is bound before the slow part, so that a taken one is known at once; health says
NOT_SERVING until every tail is warm, and again before the first frame is refused.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from isthmus.runtime.bundle import Bundle
from isthmus.runtime.errors import IsthmusError, NetworkError
from isthmus.runtime.server.config import ServerConfig
from isthmus.runtime.server.credentials import ServerCertificate
from isthmus.runtime.server.doorman import Doorman
from isthmus.runtime.server.extensions import Extensions
from isthmus.runtime.server.identity import Gate
from isthmus.runtime.server.model import ServedModel
from isthmus.runtime.server.records import Recorder
from isthmus.runtime.server.reflection import enable_reflection
from isthmus.runtime.server.service import TailService
from isthmus.runtime.server.servicer import Servicer
from isthmus.runtime.server.shelf import Shelf
from isthmus.runtime.server.watch import changed_bundles
from isthmus.runtime.server.worker_link import Change
from isthmus.runtime.server.workers import Workers
from isthmus.runtime.wire import SERVICE_NAME, add_servicer, server_options

log = logging.getLogger("isthmus.server")

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# Seconds for gRPC to write out the last answers once the service has given them.
_FLUSH_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyReport:
    """What a server that takes frames says: the port bound, the models, and the provider of each."""

    port: int
    models: tuple[str, ...]
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """How a server ended: frames by outcome, and whether all calls had ended within the grace."""

    outcomes: dict[str, int]
    complete: bool
    drain_s: float


class TailServer:
    """One server process; `start` it in a running event loop, then `drain` it."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        open_model: Callable[[Bundle, ServerConfig, Workers], ServedModel] = ServedModel.open,
        recorders: Sequence[Recorder] = (),
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        announce: Change | None = None,
    ) -> None:
        """Make a server after `config`; nothing is bound yet.

        Args:
            config: What to serve, and how.
            open_model: Brings another backend.
            recorders: Are told of every frame and batch.
            interceptors: Stand before every call, behind the doorman who asks who calls.
            announce: Has other processes on the port load or unload a model, as a client asked this one to.

        Raises:
            InputError: If a file of its security cannot be used.
        """
        self._config = config
        self._open_model = open_model
        self._recorders = tuple(recorders)
        self._announce = announce
        self._shelf = Shelf(config.bundles, config.repository)
        self._service = TailService(self._shelf, self._open, self._set_model_health)
        self._servicer = Servicer(self._service, stream_window=config.stream_window)
        self._health = health.aio.HealthServicer()
        self._draining: asyncio.Task[DrainReport] | None = None
        self._hurry = asyncio.Event()
        self._workers: Workers | None = None
        self._watching: asyncio.Task[None] | None = None
        self._certificate = ServerCertificate.of(config, self._tell_certificate)
        self._server = grpc.aio.server(
            interceptors=(Doorman(Gate.of(config)), *interceptors),
            options=_options(config),
            maximum_concurrent_rpcs=config.max_rpcs,
        )

    @property
    def certificate_not_after(self) -> datetime | None:
        """The instant until which the server's certificate is valid, UTC; None: it speaks plain text."""
        return None if self._certificate is None else self._certificate.not_after

    def _tell_certificate(self, not_after: datetime) -> None:
        for recorder in self._recorders:
            recorder.certificate(not_after)

    async def start(self) -> ReadyReport:
        """Bind, load, warm up and take frames.

        Raises:
            BundleError: If a bundle cannot be verified or its tail cannot run.
            InputError: If two bundles have the same name.
            NetworkError: If the address cannot be bound.
        """
        if self._certificate is not None and (trouble := self._certificate.trouble()):
            log.warning("%s: %s; renew it with 'isthmus certs server'", self._config.certificate, trouble)
        bundles = self._shelf.load_all()
        port = self._bind()
        self._workers = Workers.open(self._config.threads, self._recorders)
        queue_frames = self._config.queue_frames
        extensions = Extensions(self._service, queue_frames=queue_frames, announce=self._announce)
        add_servicer(self._servicer, self._server, extensions)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if not enable_reflection(self._server):
            log.info("no reflection: grpcio-reflection is not installed (pip install 'isthmus[server]')")
        names = tuple(bundle.manifest.name for bundle in bundles)
        await self._set_health(names, _NOT_SERVING)
        await self._server.start()
        try:
            models = [await asyncio.to_thread(self._open, bundle) for bundle in bundles]
        except BaseException:
            await self._server.stop(None)
            raise
        self._service.open(models)
        await self._set_health(names, _SERVING)
        if self._config.watch:
            self._watching = asyncio.create_task(self._watch())
        return ReadyReport(
            port=port, models=names, providers=tuple(model.backend.provider for model in models)
        )

    async def reload(self) -> tuple[str, ...]:
        """Load every bundle again whose content has changed, without losing a frame; return their names.

        One that cannot be used is logged, and what was served before is still served.
        """
        reloaded = []
        for name in tuple(self._service.models):
            try:
                if await self._service.reload(name):
                    reloaded.append(name)
            except IsthmusError as error:
                log.error("%s: not reloaded, the one before is still served: %s", name, error)
        log.info("reloaded: %s", ", ".join(reloaded) or "nothing has changed")
        return tuple(reloaded)

    async def change(self, change: str, name: str) -> None:
        """Load or unload the model `name` in this process alone; `change` is "load" or "unload".

        Raises:
            BundleError, GateError, UnknownModelError, DrainingError: As `TailService.load` and `unload`.
        """
        await (self._service.load(name) if change == "load" else self._service.unload(name))

    async def drain(self, grace_s: float | None = None) -> DrainReport:
        """Answer every accepted frame, refuse new ones, and stop within `grace_s` (default: the config's).

        Further calls wait for the first one's end and return its report.
        """
        if self._draining is None:
            grace_s = self._config.grace_s if grace_s is None else grace_s
            self._draining = asyncio.create_task(self._drain(grace_s))
        return await asyncio.shield(self._draining)

    def hurry(self) -> None:
        """End the grace of a drain at once."""
        self._hurry.set()

    async def _drain(self, grace_s: float) -> DrainReport:
        started_s = time.monotonic()
        if self._watching is not None:
            self._watching.cancel()
        await self._health.enter_graceful_shutdown()
        self._service.drain()
        self._servicer.drain()
        ends = [asyncio.create_task(self._servicer.idle.wait()), asyncio.create_task(self._hurry.wait())]
        await asyncio.wait(ends, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        complete = self._servicer.idle.is_set()
        # Once, and only now: grpcio 1.85 crashes when a second stop overtakes the first. What may still be
        # open are calls without an end of their own, such as watchers of our health.
        await self._server.stop(_FLUSH_S if complete else None)
        await self._service.close()
        if self._workers is not None:
            self._workers.close()
        outcomes = {str(outcome): count for outcome, count in self._service.outcomes.items()}
        return DrainReport(outcomes=outcomes, complete=complete, drain_s=time.monotonic() - started_s)

    def _bind(self) -> int:
        host, port = self._config.host, self._config.port
        try:
            # gRPC reports a taken port in several lines of its own; asking first keeps our error to one.
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if self._config.processes > 1:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                probe.bind((host, port))
            if self._certificate is not None:
                return self._server.add_secure_port(self._config.address, self._certificate.credentials())
            return self._server.add_insecure_port(self._config.address)
        except OSError as error:
            reason = error.strerror or str(error)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
        raise NetworkError(
            f"{self._config.address}: cannot be bound: {reason}; "
            "stop what uses it, or give another --host or --port (0 = any free one)"
        )

    def _open(self, bundle: Bundle) -> ServedModel:
        assert self._workers is not None
        return self._open_model(bundle, self._config, self._workers)

    async def _watch(self) -> None:
        async for name in changed_bundles(self._service.models):
            try:
                await self._service.reload(name)
            except IsthmusError as error:
                log.error("%s: not reloaded, the one before is still served: %s", name, error)

    async def _set_model_health(self, name: str, ready: bool) -> None:
        await self._health.set(name, _SERVING if ready else _NOT_SERVING)

    async def _set_health(
        self, names: Sequence[str], status: health_pb2.HealthCheckResponse.ServingStatus
    ) -> None:
        for name in ("", SERVICE_NAME, *names):
            await self._health.set(name, status)


def _options(config: ServerConfig) -> tuple[tuple[str, int], ...]:
    options = dict(server_options(config.max_message_bytes, max_connections=config.max_connections))
    if config.processes > 1:
        options["grpc.so_reuseport"] = 1
    return tuple(options.items())


async def run_until(
    stops: asyncio.Queue[int], server: TailServer, on_ready: Callable[[ReadyReport], None]
) -> DrainReport:
    """Serve until `stops` holds a signal's number, then drain; a second one ends the grace at once.

    Raises:
        BundleError, InputError, NetworkError: As `TailServer.start`.
    """
    on_ready(await server.start())
    await stops.get()
    log.info("stopping: no new frames are taken, accepted ones are answered")
    draining = asyncio.create_task(server.drain())
    again = asyncio.create_task(stops.get())
    await asyncio.wait([draining, again], return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        log.warning("stopped a second time: open calls are cut off")
        server.hurry()
    again.cancel()
    return await draining
