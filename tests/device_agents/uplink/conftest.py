"""An uplink, and the other side of it that remembers what it was told."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from isthmus.device_agents.uplink.peer import check_model
from isthmus.device_agents.uplink.roster import Roster
from isthmus.device_agents.uplink.stream import Uplink
from isthmus.runtime.session import FullJitter
from isthmus.runtime.wire import latent_request, payload_request


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
