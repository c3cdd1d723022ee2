"""Variants of the tiny bundle, a server that behaves as a test tells it, and an agent around both."""

import asyncio
import contextlib
import inspect
import random
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import numpy as np
import pytest

from isthmus.device_agents.agent import AgentRun
from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.sources import open_source
from isthmus.device_agents.uplink.peer import check_model
from isthmus.device_agents.uplink.roster import Roster
from isthmus.device_agents.uplink.stream import Uplink
from isthmus.runtime.bundle import EXIT, LOCAL, POINTS, Bundle, load_bundle, write_manifest
from isthmus.runtime.events import EndEvent, EventLog, FrameEvent, LinkEvent, RunEvent, read_events
from isthmus.runtime.session import FullJitter
from isthmus.runtime.wire import (
    EXTENSIONS,
    LATENT,
    Answer,
    add_servicer,
    answer_response,
    latent_request,
    parse_request,
    payload_request,
    refusal_response,
    server_options,
)
from isthmus.runtime.wire import oip_pb2 as oip


@pytest.fixture(scope="session")
def bundle_variant(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return `make(exit_=True, local=True)`: the tiny bundle without what is not asked for."""
    made: dict[tuple[bool, bool], Path] = {}

    def make(*, exit_: bool = True, local: bool = True) -> Path:
        if (exit_, local) not in made:
            root = tmp_path_factory.mktemp("variant") / "tiny"
            shutil.copytree(tiny_bundle, root)
            bundle = load_bundle(root)
            table = bundle.points
            if not exit_:
                (root / EXIT).unlink()
                table = msgspec.structs.replace(table, exits=())
            if not local:
                (root / LOCAL).unlink()
                table = msgspec.structs.replace(table, local=None)
            (root / POINTS).write_bytes(msgspec.json.encode(table))
            write_manifest(root, bundle.manifest)
            made[exit_, local] = root
        return made[exit_, local]

    return make


@pytest.fixture(scope="session")
def tiny(bundle_variant: Callable[..., Path]) -> Bundle:
    return load_bundle(bundle_variant())


@pytest.fixture(scope="session")
def exit_only(bundle_variant: Callable[..., Path]) -> Bundle:
    return load_bundle(bundle_variant(local=False))


@pytest.fixture(scope="session")
def serverless_mute(bundle_variant: Callable[..., Path]) -> Bundle:
    """A bundle that has no answer of its own."""
    return load_bundle(bundle_variant(exit_=False, local=False))


@pytest.fixture(scope="session")
def tiny_npz(tiny_images: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, labels = tiny_images
    path = tmp_path_factory.mktemp("images") / "tiny.npz"
    np.savez(path, images=images, labels=labels, classes=np.array(["top-left", "top-right", "bottom"]))
    return path


def right_answer(request: oip.ModelInferRequest) -> oip.ModelStreamInferResponse:
    """Answer class 1 to every frame, with the figures our server gives."""
    answer = Answer(
        frame_id=request.id,
        outcome="ok",
        outputs_nc=np.array([[0.0, 3.0, 1.0]], np.float32),
        queue_s=0.0005,
        compute_s=0.001,
        received_ns=1,
    )
    return oip.ModelStreamInferResponse(infer_response=answer_response(answer, model="tiny", output="logits"))


@dataclass
class ScriptedServer:
    """A real gRPC server on loopback whose answers a test decides.

    `reply(request)` returns one stream message, a list of them, None for silence, (status code, details) to
    end the call, or a coroutine of any of these, which holds up the frames behind it.
    """

    reply: Callable[[oip.ModelInferRequest], Any] = right_answer
    extensions: tuple[str, ...] | None = EXTENSIONS
    models: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"tiny": (-1, 4, 4, 4)})
    name: str = "scripted"
    ready: bool = True
    asked_ready: int = 0
    port: int = 0
    requests: list[oip.ModelInferRequest] = field(default_factory=list)
    streams: int = 0
    calls: int = 0

    async def start(self) -> "ScriptedServer":
        self._server = grpc.aio.server(options=server_options())
        add_servicer(self, self._server)  # type: ignore[arg-type]
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def ServerMetadata(self, request: Any, context: Any) -> oip.ServerMetadataResponse:  # noqa: N802
        if self.extensions is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no metadata here")
        return oip.ServerMetadataResponse(name=self.name, version="1", extensions=self.extensions)

    async def ModelMetadata(self, request: Any, context: Any) -> oip.ModelMetadataResponse:  # noqa: N802
        if request.name not in self.models:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name!r}")
        response = oip.ModelMetadataResponse(name=request.name)
        response.inputs.add(name=LATENT, datatype="UINT8", shape=self.models[request.name])
        return response

    async def ModelInfer(self, request: Any, context: Any) -> oip.ModelInferResponse:  # noqa: N802
        self.calls += 1
        for message in await self._replies(request, context):
            return message.infer_response
        await asyncio.Event().wait()
        raise AssertionError

    async def ModelStreamInfer(  # noqa: N802
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[oip.ModelStreamInferResponse]:
        self.streams += 1
        async for request in requests:
            for message in await self._replies(request, context):
                yield message

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    ServerReady = ServerLive

    async def ModelReady(self, request: Any, context: Any) -> oip.ModelReadyResponse:  # noqa: N802
        self.asked_ready += 1
        if request.name not in self.models:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name!r}")
        return oip.ModelReadyResponse(ready=self.ready)

    async def _replies(self, request: oip.ModelInferRequest, context: Any) -> list[Any]:
        parse_request(request)
        self.requests.append(request)
        reply = self.reply(request)
        if inspect.isawaitable(reply):
            reply = await reply
        if isinstance(reply, tuple):
            await context.abort(*reply)
        if reply is None:
            return []
        return reply if isinstance(reply, list) else [reply]


@pytest.fixture(scope="session")
def scripted_server_class() -> type[ScriptedServer]:
    return ScriptedServer


@pytest.fixture
async def scripted_server() -> AsyncIterator[Callable[..., Any]]:
    """Return `await serve(**fields)`, which starts a ScriptedServer and stops it when the test ends."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve(**fields: Any) -> ScriptedServer:
            server = await ScriptedServer(**fields).start()
            stack.push_async_callback(server.stop)
            return server

        yield serve


@pytest.fixture(scope="session")
def replies() -> dict[str, Callable[[oip.ModelInferRequest], Any]]:
    """Ways to reply: right, silent, busy, failed, expired, malformed, slow (0.2 s a frame)."""

    def outcome(name: Any) -> Callable[[oip.ModelInferRequest], Any]:
        def reply(request: oip.ModelInferRequest) -> Any:
            return refusal_response(frame_id=request.id, model="tiny", outcome=name, error=f"scripted {name}")

        return reply

    def expired(request: oip.ModelInferRequest) -> Any:
        answer = Answer(frame_id=request.id, outcome="expired", outputs_nc=np.empty((0, 0), np.float32))
        return oip.ModelStreamInferResponse(infer_response=answer_response(answer, model="tiny", output=""))

    def malformed(request: oip.ModelInferRequest) -> Any:
        message = right_answer(request)
        message.infer_response.outputs[0].datatype = "INT9"
        return message

    async def slow(request: oip.ModelInferRequest) -> Any:
        await asyncio.sleep(0.2)
        return right_answer(request)

    return {
        "right": right_answer,
        "silent": lambda request: None,
        "busy": outcome("busy"),
        "failed": outcome("failed"),
        "expired": expired,
        "malformed": malformed,
        "slow": slow,
    }


@dataclass
class Watcher:
    """Remembers what an observer is told."""

    notes: list[str] = field(default_factory=list)
    moments: list[Any] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def moment(self, moment: Any) -> None:
        self.moments.append(moment)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Return `await eventually(condition, within_s=5)`: polls, and fails if it never holds."""

    async def wait(condition: Callable[[], Any], within_s: float = 5.0) -> Any:
        end_s = asyncio.get_running_loop().time() + within_s
        while not (value := condition()):
            assert asyncio.get_running_loop().time() < end_s, "it did not happen in time"
            await asyncio.sleep(0.005)
        return value

    return wait


@dataclass
class Sink:
    """Answers the uplink and remembers what it was told."""

    manifest: Any
    plain: bool = False
    stale: set[int] = field(default_factory=set)
    addresses: list[str] = field(default_factory=list)
    capabilities: list[Any] = field(default_factory=list)
    downs: list[str] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)

    def on_connected(self, address, capability):
        check_model(capability, self.manifest)
        self.addresses.append(address)
        self.capabilities.append(capability)

    def on_down(self, address, reason):
        self.downs.append(reason)

    def message(self, frame, frame_id):
        if frame in self.stale:
            return None
        if self.plain:
            latent = np.zeros((1, 4, 4, 4), np.uint8)
            return latent_request(model="tiny", frame_id=frame_id, latent_nchw=latent, budget_us=10**6)
        return payload_request(model="tiny", frame_id=frame_id, payloads=[b"x" * 40], budget_us=10**6)

    def on_answer(self, frame, answer, now_s):
        self.answers.append((frame, answer.outcome))


@pytest.fixture
async def connect_uplink(tiny):
    """Return `connect_uplink(*addresses, **options) -> (uplink, sink, task)`; it runs until the test ends."""
    tasks = []

    def start(*addresses, plain=False, model="tiny", **options):
        sink = Sink(tiny.manifest, plain=plain)
        roster = Roster(addresses, lambda: FullJitter(base_s=0.01, cap_s=0.05, rng=random.Random(3)))
        uplink = Uplink(roster=roster, model=model, sink=sink, **options)
        task = asyncio.ensure_future(uplink.run())
        tasks.append(task)
        return uplink, sink, task

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(scope="session")
def banks(tiny, exit_only, serverless_mute):
    return {bundle.root: WidthBank(bundle) for bundle in (tiny, exit_only, serverless_mute)}


@pytest.fixture
async def launch(banks, tiny_npz, watcher, tmp_path):
    """Return `launch(bundle, server, **settings) -> (agent, task, log path)`."""
    tasks, logs = [], []

    def start(bundle, server, *, source=None, events=None, **settings):
        path = Path(events) if events else tmp_path / "events.jsonl"
        merged = {
            "source": f"npz:{tiny_npz}",
            "fps": 50.0,
            "deadline_s": 0.2,
            "policy": "fixed:3,4",
            "energy": "none",
            **settings,
        }
        config = AgentConfig(server=server, events=path, retry_cap_s=0.05, **merged)
        log = EventLog(path)
        logs.append(log)
        agent = AgentRun(
            config,
            bundle,
            bank=banks[bundle.root],
            source=source or open_source(config.source, bundle.manifest),
            log=log,
            observer=watcher,
        )
        task = asyncio.ensure_future(agent.run())
        tasks.append(task)
        return agent, task, path

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for log in logs:
        log.close()


@pytest.fixture
def account():
    """Return `account(path)`: the events of a log that accounts for every frame exactly once."""

    def check(path):
        events = list(read_events(path))
        frames = [event for event in events if isinstance(event, FrameEvent)]
        assert isinstance(events[0], RunEvent)
        end = events[-1]
        assert isinstance(end, EndEvent)
        assert sorted(event.frame for event in frames) == list(range(end.captured))
        assert sum(end.outcomes.values()) == end.captured
        for outcome, count in end.outcomes.items():
            assert count == sum(event.outcome == outcome for event in frames)
        return events[0], frames, [event for event in events if isinstance(event, LinkEvent)], end

    return check
