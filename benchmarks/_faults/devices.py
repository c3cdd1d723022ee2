"""What happens on the device: its disk, its clock, its load, its source, and who ends it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import msgspec

from _faults.fake_server import FakeServer
from _faults.scenario import Played
from _faults.stage import FPS, Stage
from isthmus.device_agents.delivery.results import Result

_FRAMES = 60


def full_disk(stage: Stage) -> Played:
    """The file of the event log cannot grow any more."""
    server = stage.serve()
    agent = stage.agent(server.port, alter="disk=12000", frames=_FRAMES)
    summary = agent.finish_by_itself()
    broken = () if summary["events_lost"] > 0 else ("no event was lost",)
    return Played(agent=agent, summary=summary, complete=False, broken=broken)


def full_disk_at_once(stage: Stage) -> Played:
    """Neither log nor results can be written at all."""
    server = stage.serve()
    full = Path("/dev/full")
    agent = stage.agent(server.port, events=full, results=full, frames=_FRAMES)
    summary = agent.finish_by_itself()
    broken = () if summary["results_lost"] == summary["captured"] else (f"{summary['results_lost']} lost",)
    # What cannot be read back: /dev/full gives zeros for ever.
    agent.log = stage.folder / "nothing"
    return Played(agent=agent, summary=summary, complete=False, broken=broken)


def blocked_results(stage: Stage) -> Played:
    """Whoever takes the results has stopped reading."""
    fifo = stage.folder / "results"
    os.mkfifo(fifo)
    descriptor = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        server = stage.serve()
        agent = stage.agent(server.port, results=fifo, fps=100, deadline="100ms", frames=400)
        summary = agent.finish_by_itself()
        taken = _read_all(descriptor)
    finally:
        os.close(descriptor)
    whole = taken[: taken.rfind(b"\n") + 1]  # its writer may have been cut off in the middle of a line
    frames = [msgspec.json.decode(line, type=Result).frame for line in whole.splitlines()]
    broken = [] if len(set(frames)) == len(frames) else ["a result was handed out twice"]
    if len(frames) + summary["results_lost"] != summary["captured"]:
        broken.append(f"{len(frames)} results taken, {summary['results_lost']} lost of {summary['captured']}")
    if summary["results_lost"] == 0:
        broken.append("no result was lost")
    return Played(agent=agent, summary=summary, broken=tuple(broken))


def _read_all(descriptor: int) -> bytes:
    taken = b""
    while True:
        try:
            taken += os.read(descriptor, 65_536)
        except BlockingIOError:
            return taken


def stepped_clock(stage: Stage) -> Played:
    """The wall clock jumps by a day, ahead and back, every second."""
    server = stage.serve()
    agent = stage.agent(server.port, alter="clock", frames=8 * FPS)
    summary = agent.finish_by_itself()
    frames = agent.frames()
    broken = []
    if len([event for event in frames if event.outcome == "remote"]) < 0.8 * len(frames):
        broken.append(f"the server answered only {summary['outcomes']}")
    lasted_s = max(event.captured_s for event in frames) - min(event.captured_s for event in frames)
    if abs(lasted_s - (8 * FPS - 1) / FPS) > 1.0:
        broken.append(f"{8 * FPS} frames took {lasted_s:.1f} s")
    return Played(agent=agent, summary=summary, broken=tuple(broken))


def slow_heads(stage: Stage) -> Played:
    """Every head takes longer than a frame's period."""
    server = stage.serve()
    agent = stage.agent(server.port, alter="heads=0.12", frames=_FRAMES)
    summary = agent.finish_by_itself()
    broken = () if summary["outcomes"]["dropped"] > 10 else ("no overload",)
    return Played(agent=agent, summary=summary, broken=broken)


def slow_heads_queued(stage: Stage) -> Played:
    """The same where three frames may wait."""
    server = stage.serve()
    agent = stage.agent(server.port, alter="heads=0.12", queue="fifo:3", frames=_FRAMES)
    return Played(agent=agent, summary=agent.finish_by_itself())


def hogged(stage: Stage) -> Played:
    """Other processes take every core, twice over, for 3 s."""
    server = stage.serve()
    agent = stage.agent(server.port)
    agent.settle()
    fault_s = time.monotonic()
    script = "import time\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass"
    hogs = [stage.start(["-c", script]) for _ in range(2 * (os.cpu_count() or 1))]
    for hog in hogs:
        hog.process.wait(30)
    return_s = time.monotonic()
    agent.recover(return_s)
    return Played(agent=agent, summary=agent.finish(), fault_s=fault_s, return_s=return_s)


def stopped_agent(stage: Stage) -> Played:
    """SIGSTOP of the agent itself, as when a laptop sleeps, and SIGCONT 3 s later."""
    server = stage.serve()
    agent = stage.agent(server.port)
    agent.settle()
    fault_s = agent.child.signal(signal.SIGSTOP)
    time.sleep(3.0)
    return_s = agent.child.signal(signal.SIGCONT)
    agent.recover(return_s)
    return Played(agent=agent, summary=agent.finish(), fault_s=fault_s, return_s=return_s)


def source_ends(stage: Stage) -> Played:
    """The source has no more frames: the run ends by itself, with all of them answered."""
    server = stage.serve()
    agent = stage.agent(server.port, source=f"once:{stage.properties.frames}")
    summary = agent.finish_by_itself()
    broken = () if summary["captured"] == 48 else (f"{summary['captured']} captured of 48",)
    return Played(agent=agent, summary=summary, broken=broken)


def source_stalls(stage: Stage) -> Played:
    """The source hangs for 0.5 s and then has no new frame for 2.5 s."""
    server = stage.serve()
    agent = stage.agent(server.port, alter="stall=6,9")
    agent.settle()
    start_s = min(event.captured_s for event in agent.frames())
    agent.recover(start_s + 9.0)
    return Played(
        agent=agent, summary=agent.finish(), fault_s=start_s + 6.0 - 0.1, return_s=start_s + 9.0 + 0.1
    )


def ended_in_flight(stage: Stage, *, numbers: tuple[int, ...]) -> Played:
    """The agent is told to end while the server owes it answers that nobody else can give."""
    server = stage.keep(FakeServer())
    agent = stage.agent(server.port, bundle=stage.properties.mute, deadline="4s")
    agent.wait_remote(10)
    server.way = "silent"
    agent.run_until(time.monotonic() + 1.0)
    asked_s = time.monotonic()
    summary = agent.finish(*numbers)
    took_s = time.monotonic() - asked_s
    broken = [] if summary["outcomes"]["dropped"] >= 10 else ["nothing was in flight"]
    # Once: what is in flight has until its deadline. Twice: it has not.
    if (took_s > 3.0) is not (len(numbers) == 1):
        broken.append(f"it took {took_s:.1f} s")
    return Played(agent=agent, summary=summary, bundle=stage.properties.mute, broken=tuple(broken))


def killed_and_started_again(stage: Stage) -> Played:
    """SIGKILL of the agent: its log is whole up to there, and the server serves the next one."""
    server = stage.serve()
    killed = stage.agent(server.port)
    killed.wait_remote(20)
    killed.child.kill()
    numbers = [event.frame for event in killed.frames()]
    broken = () if len(set(numbers)) == len(numbers) else ("a frame ended twice",)
    agent = stage.agent(server.port)
    agent.wait_remote(20)
    return Played(agent=agent, summary=agent.finish(), broken=broken)
