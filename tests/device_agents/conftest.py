"""Variants of the tiny bundle, and an agent between one of them and a server that answers as it is told."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from isthmus.device_agents.agent import AgentRun
from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.sources import open_source
from isthmus.runtime.bundle import EXIT, LOCAL, POINTS, Bundle, load_bundle, write_manifest
from isthmus.runtime.events import EndEvent, EventLog, FrameEvent, LinkEvent, RunEvent, read_events


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


@pytest.fixture(scope="session")
def scripted_server_class(scripted_server_module: ModuleType) -> type[Any]:
    return scripted_server_module.ScriptedServer


@pytest.fixture
async def scripted_server(scripted_server_class: type[Any]) -> AsyncIterator[Callable[..., Any]]:
    """Return `await serve(**fields)`, which starts a ScriptedServer and stops it when the test ends."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve(**fields: Any) -> Any:
            server = await scripted_server_class(**fields).start()
            stack.push_async_callback(server.stop)
            return server

        yield serve


@pytest.fixture(scope="session")
def replies(scripted_server_module: ModuleType) -> dict[str, Callable[[Any], Any]]:
    """Ways to reply: right, silent, busy, failed, expired, malformed, slow (0.2 s a frame)."""
    return scripted_server_module.replies()


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
