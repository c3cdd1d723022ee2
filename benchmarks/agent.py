"""What the agent costs beyond the head and the link: milliseconds a frame, processor time, memory.

Options:
    bundle: The bundle's directory. Needed.
    source: Frames, as `isthmus agent --source` takes them. Needed.
    seconds: How long each run lasts.
    rounds: How often each combination is run.

A real `isthmus serve` process answers on loopback. For each rate and policy, in turn, an agent runs in this
process with timers around its parts; the samples of all rounds are pooled. `overhead_s` of a frame is what
its latency holds beyond head and link:

    latency − head − (answer received − handed to gRPC)

Its parts: `clock` (due to captured), `encode` (entropy coding and header), `handling` (all the rest: source,
hand-over, guard, queue). Outside of it, and listed beside it: `decide` (the policy's choice, made before the
frame is due), `request` (building the message), `answer` (from a received answer to the frame's end, log
included), `event_log` (its share). `link_s` is from handing over to the answer, gRPC on both sides, queue and
tail included; `grpc_s` is that less what the server says of its queue and tail.

Then `isthmus agent run` itself is run as a process of its own beside one that runs nothing but the widest
head at the same rate (`_heads.py`): processor time as a share of one core, and resident memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from isthmus.cli.eval import server_address
from isthmus.device_agents.agent import AgentRun
from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.clock import run_exactly
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.ledger import Moment
from isthmus.device_agents.pipeline import Pipeline
from isthmus.device_agents.sources import open_source
from isthmus.device_agents.uplink.flight import Flight
from isthmus.runtime.bundle import Bundle, load_bundle
from isthmus.runtime.errors import InputError
from isthmus.runtime.events import EventLog, FrameEvent, read_events

RATES = (30, 100)
_QUICK_RATES = (100,)
# Beyond head and link, at the median: what the design allows.
TARGET_S = 0.3e-3
# Connecting, and the first frames through cold caches, are not what is measured.
_SKIPPED_S = 1.0
_SETTLE_S = 3.0

Samples = dict[str, list[float]]


def run(
    *,
    quick: bool = False,
    bundle: str | None = None,
    source: str | None = None,
    seconds: float = 10.0,
    rounds: int = 3,
) -> dict[str, Any]:
    """Return the breakdown, the shares of a core and the memory.

    Raises:
        InputError: If an option is missing.
    """
    if bundle is None or source is None:
        raise InputError("agent needs --option bundle=DIR --option source=SPEC")
    rates = _QUICK_RATES if quick else RATES
    if quick:
        seconds, rounds = 1.0, 1
    loaded = load_bundle(bundle)
    widest = loaded.manifest.points[-1]
    policies = {
        "fixed": f"fixed:{widest.width_index},{widest.channels}",
        "expected-utility": "expected-utility",
    }
    pooled: dict[tuple[int, str], Samples] = {}
    with server_address(None, loaded.root) as address:
        bank = WidthBank(loaded, threads=1, provider="cpu")
        for _ in range(rounds):
            for rate in rates:
                for name, policy in policies.items():
                    taken = _run_agent(loaded, bank, source, address, rate, policy, seconds)
                    samples = pooled.setdefault((rate, name), defaultdict(list))
                    for part, values in taken.items():
                        samples[part] += values
        processes = {
            f"{rate}_fps": _processes(loaded, source, address, rate, rounds, seconds) for rate in rates
        }
    frames = {f"{rate}_fps": {name: _breakdown(pooled[rate, name]) for name in policies} for rate in rates}
    return {
        "figures": {
            "bundle": loaded.manifest.name,
            "seconds": seconds,
            "rounds": rounds,
            "target_overhead_s": TARGET_S,
            "frames": frames,
            "processes": processes,
        },
        "ratios": _ratios(frames, processes),
    }


def _run_agent(
    bundle: Bundle, bank: WidthBank, source: str, address: str, rate: int, policy: str, seconds: float
) -> Samples:
    """Run an agent once and return seconds per part of a frame, only of frames that the server answered."""
    config = AgentConfig(
        source=source,
        server=address,
        fps=float(rate),
        policy=policy,
        duration_s=seconds + _SKIPPED_S,
        thermal="off",
        energy="none",
    )
    with tempfile.TemporaryDirectory() as folder, _timers() as timed:
        path = Path(folder) / "events.jsonl"
        log = EventLog(path)

        async def agent() -> None:
            frames = open_source(source, bundle.manifest)
            try:
                await AgentRun(config, bundle, bank=bank, source=frames, log=log, observer=_Nobody()).run()
            finally:
                frames.close()

        run_exactly(agent())
        log.close()
        events = [event for event in read_events(path) if isinstance(event, FrameEvent)]
    begin_s = events[0].captured_s + _SKIPPED_S
    samples: Samples = defaultdict(list)
    for event in sorted(events, key=lambda event: event.frame):
        if event.outcome == "remote" and event.captured_s >= begin_s:
            _add(samples, event, {part: values[event.frame] for part, values in timed.items()})
    return samples


def _add(samples: Samples, event: FrameEvent, parts: dict[str, float]) -> None:
    overhead_s = event.latency_s - event.head_s - event.remote_s
    known_s = parts["clock"] + event.encode_s
    samples["overhead_s"].append(overhead_s)
    samples["clock_s"].append(parts["clock"])
    samples["encode_s"].append(event.encode_s)
    samples["handling_s"].append(overhead_s - known_s)
    samples["decide_s"].append(parts["decide"])
    samples["request_s"].append(parts["request"])
    samples["answer_s"].append(parts["answer"])
    samples["event_log_s"].append(parts["event_log"])
    samples["head_s"].append(event.head_s)
    samples["link_s"].append(event.remote_s)
    samples["grpc_s"].append(event.remote_s - event.server_queue_s - event.server_compute_s)


@contextmanager
def _timers() -> Iterator[dict[str, dict[int, float]]]:
    """Time the parts of every agent made in this block; yields seconds by part and frame."""
    timed: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    capture = Pipeline.capture

    def captured(self: Pipeline, image: Any, captured_s: float, truth: int | None) -> int:
        late_s = time.monotonic() - captured_s
        frame = capture(self, image, captured_s, truth)
        timed["clock"][frame] = late_s
        return frame

    with ExitStack() as stack:
        _replace(stack, Pipeline, "capture", captured)
        _time(stack, Pipeline, "prepare", timed["decide"], lambda pipeline, due_s: pipeline.next_frame)
        _time(stack, Flight, "message", timed["request"], lambda _, frame, frame_id: frame)
        _time(stack, Flight, "on_answer", timed["answer"], lambda _, frame, answer, now_s: frame)
        _time(stack, EventLog, "write", timed["event_log"], lambda _, event: getattr(event, "frame", -1))
        yield timed


def _time(
    stack: ExitStack, owner: type, name: str, into: dict[int, float], frame_of: Callable[..., int]
) -> None:
    method = getattr(owner, name)

    def timed(self: Any, *args: Any) -> Any:
        frame = frame_of(self, *args)
        started = time.perf_counter()
        result = method(self, *args)
        into[frame] = time.perf_counter() - started
        return result

    _replace(stack, owner, name, timed)


def _replace(stack: ExitStack, owner: type, name: str, by: Any) -> None:
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, by)


class _Nobody:
    """Watches without a word."""

    def note(self, text: str) -> None:
        pass

    def moment(self, moment: Moment) -> None:
        pass


def _breakdown(samples: Samples) -> dict[str, Any]:
    table: dict[str, Any] = {"frames": len(samples.get("overhead_s", ()))}
    for part, values in samples.items():
        median, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
        table[part] = {"median": median, "p90": p90, "p99": p99}
    return table


def _processes(
    bundle: Bundle, source: str, address: str, rate: int, rounds: int, seconds: float
) -> dict[str, Any]:
    heads = [sys.executable, str(Path(__file__).with_name("_heads.py")), str(bundle.root), str(rate)]
    agent = [sys.executable, "-m", "isthmus", "agent", "run", str(bundle.root), "--quiet", "--json"]
    agent += ["--source", source, "--server", address, "--fps", str(rate), "--provider", "cpu"]
    cpu: Samples = {"agent": [], "heads": []}
    memory: Samples = {"agent": [], "heads": []}
    for _ in range(rounds):
        for name, command in (("agent", agent), ("heads", heads)):
            share, rss = _measure(command, seconds)
            cpu[name].append(share)
            memory[name].append(rss)
    return {
        name: {
            "core_share": _spread(cpu[name]),
            "rss_bytes": _spread(memory[name]),
        }
        for name in cpu
    }


def _measure(command: list[str], seconds: float) -> tuple[float, float]:
    """Return the share of one core and the resident bytes of a process while it works."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(_SETTLE_S)
        process = psutil.Process(child.pid)
        before, started = process.cpu_times(), time.monotonic()
        time.sleep(seconds)
        after, elapsed_s = process.cpu_times(), time.monotonic() - started
        used_s = after.user + after.system - before.user - before.system
        return used_s / elapsed_s, float(process.memory_info().rss)
    finally:
        child.terminate()
        child.wait()


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def _ratios(frames: dict[str, Any], processes: dict[str, Any]) -> dict[str, Any]:
    ratios: dict[str, Any] = {}
    for rate, policies in frames.items():
        agent, heads = processes[rate]["agent"], processes[rate]["heads"]
        ratios[rate] = {
            "overhead_over_target": {
                name: table["overhead_s"]["median"] / TARGET_S
                for name, table in policies.items()
                if table["frames"]
            },
            "agent_over_heads_rss": agent["rss_bytes"]["median"] / heads["rss_bytes"]["median"],
        }
        if heads["core_share"]["median"] > 0:  # the kernel counts in hundredths of a second
            ratios[rate]["agent_over_heads_core_share"] = (
                agent["core_share"]["median"] / heads["core_share"]["median"]
            )
    return ratios
