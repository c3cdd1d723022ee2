"""What the configuration means for the way to the servers."""

from __future__ import annotations

import math

from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.guard import Guard
from isthmus.device_agents.uplink.flight import Flight, FlightOwner
from isthmus.device_agents.uplink.roster import Roster
from isthmus.device_agents.uplink.stream import Uplink
from isthmus.runtime.bundle import Manifest
from isthmus.runtime.session import FullJitter, Session

# A server that leaves a frame unanswered for so long hangs; with another to turn to, less patience is needed.
_PATIENCE_S, _PATIENCE_WITH_OTHERS_S = 30.0, 5.0
# An answer this long overdue is worth nothing to anyone, so its connection may go.
_STUCK_S, _STUCK_DEADLINES = 2.0, 2.0


def make_flight(
    config: AgentConfig, manifest: Manifest, *, session: Session, guard: Guard, owner: FlightOwner
) -> Flight:
    """Return the flight of a run."""
    return Flight(
        manifest=manifest,
        model=config.model or manifest.name,
        session=session,
        guard=guard,
        owner=owner,
        most_in_flight=most_in_flight(config),
        busy_backoff=FullJitter(base_s=0.05, cap_s=1.0),
    )


def most_in_flight(config: AgentConfig) -> int:
    """Return how many frames may be unanswered: all that one deadline spans."""
    return math.ceil(config.fps * config.deadline_s) + 1


def make_uplink(config: AgentConfig, manifest: Manifest, *, sink: Flight) -> Uplink:
    """Return the uplink of a run."""
    patience_s = _PATIENCE_S if len(config.servers) == 1 else _PATIENCE_WITH_OTHERS_S
    return Uplink(
        roster=Roster(config.servers, lambda: FullJitter(base_s=0.1, cap_s=config.retry_cap_s)),
        model=config.model or manifest.name,
        sink=sink,
        security=config.security,
        connect_timeout_s=config.connect_timeout_s,
        answer_timeout_s=max(patience_s, 2 * config.deadline_s),
        failback_s=config.failback_s,
        stuck_s=max(_STUCK_S, _STUCK_DEADLINES * config.deadline_s),
    )
