"""What happens to servers."""

from __future__ import annotations

import signal
import socket
import time

from _faults.fake_server import FakeServer
from _faults.scenario import Played
from _faults.stage import Agent, Child, Stage
from isthmus.runtime.events import LinkEvent

_AWAY_S = 3.0


def killed(stage: Stage) -> Played:
    """SIGKILL; another process takes its place 3 s later."""
    server, agent = _settled(stage)
    fault_s = server.kill()
    agent.run_until(fault_s + _AWAY_S)
    stage.serve(port=server.port)
    return _recovered(agent, fault_s)


def killed_for_good(stage: Stage) -> Played:
    """SIGKILL, and nobody takes its place."""
    server, agent = _settled(stage)
    agent.run_until(server.kill() + _AWAY_S)
    return Played(agent=agent, summary=agent.finish())


def stopped(stage: Stage, *, away_s: float = _AWAY_S) -> Played:
    """SIGSTOP; its sockets stay open and silent until SIGCONT."""
    server, agent = _settled(stage)
    fault_s = server.signal(signal.SIGSTOP)
    try:
        agent.run_until(fault_s + away_s)
    finally:
        return_s = server.signal(signal.SIGCONT)
    return _recovered(agent, fault_s, return_s)


def restarted(stage: Stage) -> Played:
    """SIGTERM: it drains and ends; at once another takes its place."""
    server, agent = _settled(stage)
    fault_s = server.signal(signal.SIGTERM)
    server.process.wait(30)
    stage.serve(port=server.port)
    return _recovered(agent, fault_s)


def drained(stage: Stage) -> Played:
    """SIGTERM in mid-stream, and nobody takes its place."""
    server, agent = _settled(stage)
    fault_s = server.signal(signal.SIGTERM)
    agent.run_until(fault_s + _AWAY_S)
    return Played(agent=agent, summary=agent.finish())


def other_weights(stage: Stage) -> Played:
    """A bundle of the same name with other weights and tables stands in for 3 s."""
    server, agent = _settled(stage)
    fault_s = server.kill()
    other = stage.serve(stage.properties.other, port=server.port)
    agent.run_until(time.monotonic() + _AWAY_S)
    other.kill()
    stage.serve(port=server.port)
    return _recovered(agent, fault_s)


def other_latent(stage: Stage) -> Played:
    """A model of the same name whose latents have another shape stands in for 3 s."""
    server, agent = _settled(stage)
    fault_s = server.kill()
    other = stage.keep(FakeServer(port=server.port, side=2))
    agent.run_until(time.monotonic() + _AWAY_S)
    other.close()
    stage.serve(port=server.port)
    return _recovered(agent, fault_s)


def misbehaving(stage: Stage, *, way: str, away_s: float = _AWAY_S) -> Played:
    """A server answers in `way` for 3 s, then as it should again."""
    server = stage.keep(FakeServer())
    agent = stage.agent(server.port)
    agent.settle()
    fault_s, server.way = time.monotonic(), way
    agent.run_until(fault_s + away_s)
    server.way = "right"
    return _recovered(agent, fault_s)


def swallowing(stage: Stage) -> Played:
    """A server takes frames for 3 s and never answers them, though it answers whoever asks if it lives.

    Those frames hold the agent's credit for ever; their connection is replaced after 2 s without an answer,
    when a new one has been found to get through. So it may take 3 s after the return.
    """
    server = stage.keep(FakeServer())
    agent = stage.agent(server.port)
    agent.settle()
    fault_s, server.way = time.monotonic(), "silent"
    agent.run_until(fault_s + _AWAY_S)
    server.way, return_s = "right", time.monotonic()
    agent.recover(return_s, within_s=3.0)
    return Played(agent=agent, summary=agent.finish(), fault_s=fault_s, return_s=return_s, within_s=3.0)


def odd_answers(stage: Stage, *, way: str) -> Played:
    """A server answers in `way` all the time; still, it does answer."""
    server = stage.keep(FakeServer(way=way))
    agent = stage.agent(server.port)
    agent.wait_remote(30)
    summary = agent.finish()
    order = [event.frame for event in agent.frames() if event.outcome == "remote"]
    # What is played must have been met; of a repeated or unknown answer the log rightly knows nothing.
    as_meant = (order != sorted(order)) is (way == "swapped")
    return Played(agent=agent, summary=summary, broken=() if as_meant else (f"answered in order {order}",))


def absent_at_first(stage: Stage) -> Played:
    """Nobody listens when the agent starts; 3 s later somebody does."""
    port = _free_port()
    agent = stage.agent(port)
    agent.wait(lambda: len(agent.frames()) >= 60, "frames without a server")
    stage.serve(port=port)
    agent.wait_remote(20)
    return Played(agent=agent, summary=agent.finish())


def mute_listener(stage: Stage) -> Played:
    """Somebody accepts connections and says nothing, ever."""
    listener = stage.hold(socket.create_server(("127.0.0.1", 0)))
    agent = stage.agent(listener.getsockname()[1])
    agent.wait(lambda: len(agent.frames()) >= 100, "frames without a server")
    return Played(agent=agent, summary=agent.finish())


def unknown_name(stage: Stage) -> Played:
    """The server's name does not resolve."""
    agent = stage.agent("no-such-host.invalid:8001", insecure=True)
    agent.wait(lambda: len(agent.frames()) >= 60, "frames without a server")
    return Played(agent=agent, summary=agent.finish())


def failover(stage: Stage) -> Played:
    """The preferred of two servers dies: the other takes over, and the first is returned to."""
    first, second = stage.serve(), stage.serve()
    agent = stage.agent(first.port, second.port, failback="1s")
    agent.settle()
    fault_s = first.kill()
    # The other one is there all the time: what is lost comes back with the very fault.
    agent.recover(fault_s)
    used = _server_of(agent)
    stage.serve(port=first.port)
    agent.wait(lambda: _server_of(agent) == f"127.0.0.1:{first.port}", "the return to the preferred server")
    agent.run_until(time.monotonic() + 1.0)
    broken = () if used == f"127.0.0.1:{second.port}" else (f"after the fault {used} was used",)
    return Played(agent=agent, summary=agent.finish(), fault_s=fault_s, return_s=fault_s, broken=broken)


def both_die(stage: Stage) -> Played:
    """Both of two servers die; the less preferred comes back."""
    first, second = stage.serve(), stage.serve()
    agent = stage.agent(first.port, second.port, failback="1s")
    agent.settle()
    fault_s = first.kill()
    second.kill()
    agent.run_until(fault_s + _AWAY_S)
    stage.serve(port=second.port)
    return _recovered(agent, fault_s)


def _settled(stage: Stage) -> tuple[Child, Agent]:
    server = stage.serve()
    agent = stage.agent(server.port)
    agent.settle()
    return server, agent


def _recovered(agent: Agent, fault_s: float, return_s: float | None = None) -> Played:
    """Return a run of which all that failed is there again since `return_s`; None: since now."""
    back_s = time.monotonic() if return_s is None else return_s
    agent.recover(back_s)
    return Played(agent=agent, summary=agent.finish(), fault_s=fault_s, return_s=back_s)


def _server_of(agent: Agent) -> str | None:
    links = [event for event in agent.events() if isinstance(event, LinkEvent)]
    return links[-1].server if links and links[-1].connected else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
