"""Nothing grows with time: an hour of frames on a virtual clock, ten minutes of them on the real one."""

import asyncio
import gc
import json
import random
import subprocess
import sys
import tracemalloc

import numpy as np
import psutil
import pytest

from isthmus.device_agents.device import Encoded
from isthmus.device_agents.uplink.flight import Flight
from isthmus.device_agents.uplink.peer import Capability
from isthmus.runtime.session import FullJitter, Quantiles, Session, Tally
from isthmus.runtime.wire import Answer, oip

FPS, DEADLINE_S = 30.0, 0.15
SAMPLE_S = 30.0


class Silent:
    """Stands for the guard and for whoever owns a flight."""

    def __init__(self, session, tally):
        self.session, self.tally = session, tally

    def recall(self, frame, reason):
        if self.session.recall(frame, reason):
            self.end(self.session.device(frame, self.session.deadline_of(frame) - 0.01, "exit", 1))

    def end(self, event, scores_c=None):
        if event is not None:
            self.tally.add(event)

    def on_form(self, *, as_payload):
        pass

    def note(self, text):
        pass


def _frames(tiny, monkeypatch, *, seconds):
    """Return a function that lives through `seconds` of virtual time, and the tally of its frames."""
    clock = [1000.0]
    monkeypatch.setattr("isthmus.device_agents.uplink.flight.time.monotonic", lambda: clock[0])
    session, tally, rng = Session(deadline_s=DEADLINE_S), Tally(), random.Random(5)
    silent = Silent(session, tally)
    flight = Flight(
        manifest=tiny.manifest,
        model="tiny",
        session=session,
        guard=silent,
        owner=silent,
        most_in_flight=6,
        busy_backoff=FullJitter(base_s=0.05, cap_s=1.0, rng=rng),
    )
    capability = Capability(
        server="s", stream=True, payload=True, metadata=oip.ModelMetadataResponse(name="tiny")
    )
    scores = np.array([[0.0, 2.0, 1.0]], np.float32)
    latent = np.zeros((4, 4, 4), np.uint8)

    def live():
        for number in range(int(seconds * FPS)):
            clock[0] += 1 / FPS
            if number % 5000 == 0:
                flight.on_down("s:1", "lost")
                flight.on_connected("s:1", capability)
            frame, _ = session.capture(clock[0])
            session.take()
            session.decided(frame, point=tiny.manifest.points[number % 3], reason=f"rate {number}")
            session.computed(frame, head_s=0.001, encode_s=0.0001)
            session.queue(frame, answer_s=0.01)
            encoded = Encoded(
                latent_chw=latent,
                channels=4,
                payload=bytes(40),
                plain_nchw=None,
                head_s=0.001,
                encode_s=0.0001,
            )
            flight.estimate(clock[0])
            flight.launch(frame, encoded, send=lambda frame: flight.message(frame, str(frame)))
            outcome = rng.choices(["ok", "busy", "failed", "expired", None], [80, 5, 5, 5, 5])[0]
            clock[0] += rng.uniform(0.0, 0.01)
            if outcome is not None:
                answer = Answer(
                    frame_id="", outcome=outcome, outputs_nc=scores, queue_s=0.001, received_ns=number
                )
                flight.on_answer(frame, answer, clock[0])
            for due in session.due(clock[0])[0]:
                silent.end(session.device(due, clock[0], "exit", 1))

    return live, tally


def test_minutes_of_frames_leave_nothing_behind(tiny, monkeypatch):
    quarter_s = 90.0
    live, tally = _frames(tiny, monkeypatch, seconds=quarter_s)
    live()
    tracemalloc.start(1)
    try:
        live()
        gc.collect()
        first, _ = tracemalloc.get_traced_memory()
        live()
        live()
        gc.collect()
        last, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    summary = tally.summary()
    assert summary.captured >= 4 * quarter_s * FPS - 10
    assert {"remote", "exit"} <= {name for name, count in summary.outcomes.items() if count}
    assert last - first < 20_000


@pytest.mark.slow
def test_an_hour_of_frames_leaves_nothing_behind(tiny, monkeypatch):
    live, tally = _frames(tiny, monkeypatch, seconds=900.0)
    live()
    tracemalloc.start(1)
    try:
        # Counters of rare latencies are new at first; there are only so many.
        live()
        live()
        gc.collect()
        first, _ = tracemalloc.get_traced_memory()
        live()
        live()
        gc.collect()
        last, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert tally.summary().captured >= 5 * 900 * FPS - 10
    assert last - first < 10_000


def test_quantiles_of_a_week_fit_in_a_page_of_counters():
    quantiles, rng = Quantiles(), random.Random(1)
    for _ in range(100_000):
        quantiles.add(rng.lognormvariate(-3, 1.5))
    assert len(quantiles._buckets) < 2000


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_ten_minutes_of_a_real_run_do_not_grow(scripted_server, exit_only, tiny_npz, tmp_path):
    server = await scripted_server()
    # A process of its own: this one holds the server, and what a test remembers.
    arguments = [
        "agent",
        "run",
        str(exit_only.root),
        "--server",
        server.address,
        "--source",
        f"npz:{tiny_npz}",
    ]
    arguments += ["--fps", "100", "--policy", "fixed:3,4", "--events", "/dev/null", "--results", "/dev/null"]
    arguments += ["--status", str(tmp_path / "status.json"), "--json"]
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "isthmus", *arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process, rss = psutil.Process(agent.pid), []
    for _ in range(20):
        await asyncio.sleep(SAMPLE_S)
        server.requests.clear()
        rss.append(process.memory_info().rss)
        if len(rss) in (3, 10):
            await server.stop()
            await asyncio.sleep(2)
            await server.start()
    agent.terminate()
    out, _ = await asyncio.wait_for(agent.communicate(), 10)
    result = json.loads(out)
    assert result["captured"] > 90 * 20 * SAMPLE_S
    assert result["outcomes"]["remote"] > result["captured"] / 2
    assert result["reconnects"] >= 2
    settled, end = float(np.median(rss[4:9])), float(np.median(rss[-5:]))
    assert end - settled < 1 << 20, [value >> 10 for value in rss]
