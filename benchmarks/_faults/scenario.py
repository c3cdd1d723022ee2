"""What a scenario is, and how one is played."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from _faults.bundles import Properties
from _faults.stage import DEADLINE_S, Agent, Stage
from _faults.verdict import WITHIN_S, Verdict, judge
from isthmus.runtime.bundle import load_bundle

# "process": every part that the fault touches is a process of its own; "netns": the same, behind a link of
# packets in a network namespace; "virtual": the simulator.
Backend = Literal["process", "netns", "virtual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A run that is over.

    Attributes:
        agent: The agent that ran.
        summary: What it said at its end.
        fault_s, return_s: See `judge`.
        within_s: See `judge`.
        bundle: What it ran, if not the usual bundle.
        complete: Its log could be written to the end.
        broken: What the scenario itself found broken, in words.
        notes: For people.
    """

    agent: Agent
    summary: Mapping[str, Any]
    fault_s: float | None = None
    return_s: float | None = None
    within_s: float = WITHIN_S
    bundle: Path | None = None
    complete: bool = True
    broken: tuple[str, ...] = ()
    notes: str = ""


Play = Callable[[Stage], Played] | Callable[[Properties], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing that happens to an agent.

    Attributes:
        name: In words.
        backend: Where it is played.
        play: Plays it.
        returns: What failed comes back, and utility must be back within 2 s of that.
        slow: Not among the quick tests: it takes longer than half a minute, or is much like another one.
        greedy: It takes the whole machine, so nothing else is played beside it.
    """

    name: str
    backend: Backend
    play: Play
    returns: bool = False
    slow: bool = False
    greedy: bool = False

    @property
    def title(self) -> str:
        """The name that is unique."""
        return f"{self.name} ({self.backend})"


def play(scenario: Scenario, properties: Properties) -> Verdict:
    """Play `scenario` and return what it showed.

    Raises:
        AssertionError: If it did not come to what it is about.
    """
    if scenario.backend == "virtual":
        return scenario.play(properties)  # type: ignore[arg-type, return-value]
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder), properties) as stage:
        played: Played = scenario.play(stage)  # type: ignore[arg-type, assignment]
        verdict = judge(
            played.agent.events(),
            played.summary,
            load_bundle(played.bundle or properties.bundle).points,
            fault_s=played.fault_s,
            return_s=played.return_s,
            deadline_s=DEADLINE_S,
            within_s=played.within_s,
            complete=played.complete,
            notes=played.notes,
        )
    return verdict.with_violations(played.broken)
