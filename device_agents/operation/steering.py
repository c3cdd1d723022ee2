"""What of a running agent can be changed: its deadline, by the socket file of `--control`."""

from __future__ import annotations

import time
from dataclasses import replace

from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.ledger import Ledger
from isthmus.device_agents.pipeline import Pipeline
from isthmus.device_agents.uplink.flight import Flight
from isthmus.device_agents.uplink.wiring import most_in_flight
from isthmus.runtime.session import Session
from isthmus.runtime.steering import Knob, SteeringSocket

_SHORTEST_S = 0.005
# The way to the server was made for the deadline of the start: it takes an answer that is two deadlines late,
# and at least two seconds, for one that will not come.
_LONGEST_S = 1.0


class Deadline:
    """The deadline of one run; lives on the event loop's thread.

    Args:
        config: What the agent was told.
        session: Gives every frame its deadline.
        flight: Bounds what is unanswered by it.
        pipeline: Has chosen for the next frame already.
        ledger: Records the change.
    """

    def __init__(
        self, config: AgentConfig, *, session: Session, flight: Flight, pipeline: Pipeline, ledger: Ledger
    ) -> None:
        self._config = config
        self._session, self._flight, self._pipeline, self._ledger = session, flight, pipeline, ledger

    @property
    def seconds(self) -> float:
        """From capture; of the frames captured now."""
        return self._session.deadline_s

    def set(self, deadline_s: float | None) -> None:
        """Give the frames captured from now on another deadline; None: that of the start."""
        seconds = self._config.deadline_s if deadline_s is None else deadline_s
        self._session.deadline_s = seconds
        self._flight.most_in_flight = most_in_flight(replace(self._config, deadline_s=seconds))
        self._pipeline.reconsider()
        self._ledger.deadline(time.monotonic(), seconds)


def steering_socket(config: AgentConfig, deadline: Deadline) -> SteeringSocket:
    """Return the socket of the file `config.control`, which must be there, that sets `deadline`."""
    assert config.control is not None
    knob = Knob(
        name="deadline_s",
        low=min(_SHORTEST_S, config.deadline_s),
        high=max(_LONGEST_S, config.deadline_s),
        read=lambda: (deadline.seconds, deadline.seconds != config.deadline_s),
        write=deadline.set,
    )
    return SteeringSocket(config.control, kind="agent", name=config.name, knobs=[knob])
