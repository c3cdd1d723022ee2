"""What happens to links."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from _faults.relay import Relay
from _faults.scenario import Played
from _faults.stage import Agent, Stage
from isthmus.runtime.events import EventLog, ShapeEvent, read_events
from isthmus.runtime.links import load_trace
from isthmus.runtime.links.netns import NamespaceLink

_GOOD = "100kB"
# Before the cut; the trace begins with the agent's first connection.
_BEFORE_S = 6.0
# The trace must not repeat within a run.
_REST_S = 600.0
# One packet, or the few small ones that fit: what comes later into a cut is lost.
_QUEUE_BYTES = 1500


def cut(stage: Stage, *, rate: str = "0B", lasts_s: float, delay: str = "10ms") -> Played:
    """The link falls to `rate` for so long."""
    server = stage.serve()
    link, log = stage.link(server, _trace(rate, lasts_s), delay=delay)
    agent = stage.agent(link.port)
    agent.wait_remote()
    return _through(agent, log, lasts_s)


def cut_packets(stage: Stage, *, lasts_s: float) -> Played:
    """The same with real TCP end to end: what it sends into the cut is lost, and must be sent again."""
    log = stage.folder / "netns.jsonl"
    events = stage.keep(EventLog(log))
    trace = load_trace(_trace("0B", lasts_s))
    link = stage.hold(NamespaceLink(trace, delay_s=0.01, queue_bytes=_QUEUE_BYTES, events=events))
    server = stage.serve(host=link.host)
    agent = stage.agent(f"{link.host}:{server.port}", insecure=True, start=link.start)
    agent.wait_remote()
    return _through(agent, log, lasts_s)


def flapping(stage: Stage) -> Played:
    """The link is there for 0.5 s and away for 0.5 s, nine times; then it stays."""
    flaps = ",".join(["0B@0.5s,100kB@0.5s"] * 8)
    server = stage.serve()
    link, log = stage.link(server, f"step:{_GOOD}@{_BEFORE_S}s,{flaps},0B@0.5s,{_GOOD}@{_REST_S}s")
    agent = stage.agent(link.port)
    agent.wait_remote()
    return _through(agent, log, 8.5)


def cut_and_killed(stage: Stage) -> Played:
    """While the link is cut the server is killed and another one takes its place."""
    server = stage.serve()
    link, log = stage.link(server, _trace("0B", 4.0))
    agent = stage.agent(link.port)
    agent.wait_remote()
    agent.run_until(agent.wait(lambda: _first_zero(log), "the cut") + 1.0)
    server.kill()
    stage.serve(port=server.port)
    return _through(agent, log, 4.0)


def far_away(stage: Stage, *, delay: str) -> Played:
    """Every way takes `delay`: no answer is ever in time, and none is needed."""
    server = stage.serve()
    link, _ = stage.link(server, f"constant:{_GOOD}", delay=delay)
    agent = stage.agent(link.port)
    agent.wait(lambda: any(event.payload_bytes for event in agent.frames()), "a frame that is sent")
    agent.run_until(time.monotonic() + 4.0)
    return Played(agent=agent, summary=agent.finish())


def far_away_for_slow_deadlines(stage: Stage) -> Played:
    """RTT 2 s where frames have 3 s: the server answers them all the same."""
    server = stage.serve()
    link, _ = stage.link(server, f"constant:{_GOOD}", delay="1s")
    agent = stage.agent(link.port, deadline="3s", bundle=stage.properties.mute)
    agent.wait_remote(20)
    return Played(agent=agent, summary=agent.finish(), bundle=stage.properties.mute)


def thin(stage: Stage) -> Played:
    """10 kbit/s all the time: a few frames a second get through."""
    server = stage.serve()
    link, _ = stage.link(server, "constant:10kbit")
    agent = stage.agent(link.port)
    agent.wait_remote(5)
    return Played(agent=agent, summary=agent.finish())


def half_open(stage: Stage, *, lasts_s: float) -> Played:
    """Something on the way forgets the connection: it stays open on both ends and carries nothing.

    New connections are carried again after `lasts_s`; the old one never is.
    """
    server = stage.serve()
    relay = stage.keep(Relay(server.port))
    agent = stage.agent(relay.port)
    agent.settle()
    fault_s = time.monotonic()
    relay.lose()
    agent.run_until(fault_s + lasts_s)
    relay.back()
    return_s = time.monotonic()
    agent.recover(return_s)
    return Played(agent=agent, summary=agent.finish(), fault_s=fault_s, return_s=return_s)


def _through(agent: Agent, log: Path, lasts_s: float) -> Played:
    """Wait until the cut is over and the agent has recovered; the link's own log tells when that was."""
    fault_s = agent.wait(lambda: _first_zero(log), "the cut")
    agent.run_until(fault_s + lasts_s)
    return_s = agent.wait(lambda: _last_return(log, fault_s), "the link's return")
    agent.recover(max(return_s, fault_s + lasts_s))
    return_s = _last_return(log, fault_s) or return_s
    return Played(agent=agent, summary=agent.finish(), fault_s=fault_s, return_s=return_s)


def _rates(log: Path) -> list[ShapeEvent]:
    return [event for event in read_events(log) if isinstance(event, ShapeEvent)] if log.exists() else []


def _first_zero(log: Path) -> float | None:
    """Return when the link first fell below what it was at first."""
    rates = _rates(log)
    return next((one.at_s for one in rates if one.rate_bytes_per_s < rates[0].rate_bytes_per_s), None)


def _last_return(log: Path, fault_s: float) -> float | None:
    rates = _rates(log)
    best = rates[0].rate_bytes_per_s
    back = [
        later.at_s
        for one, later in itertools.pairwise(rates)
        if later.at_s > fault_s and one.rate_bytes_per_s < best <= later.rate_bytes_per_s
    ]
    return back[-1] if back else None


def _trace(rate: str, lasts_s: float) -> str:
    return f"step:{_GOOD}@{_BEFORE_S}s,{rate}@{lasts_s}s,{_GOOD}@{_REST_S}s"
