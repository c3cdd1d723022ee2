"""How this machine runs a network or a half of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx import ModelProto

from isthmus.partitioner.network.model import Network
from isthmus.partitioner.running.execution import Clock, Feed, clock_for, open_session, run, session_options
from isthmus.partitioner.running.providers import CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How this machine runs a network: threads of one inference, and ONNX Runtime's providers."""

    threads: int
    providers: tuple[str, ...] = CPU

    @property
    def clock(self) -> Clock:
        """The clock to time it with: what an accelerator does is on no thread's account."""
        return clock_for(self.threads if self.providers == CPU else 0)

    def prepare(self, model: ModelProto, network: Network, feed: Feed) -> tuple[Callable[[], object], Feed]:
        """Return a call of `model` (the network or a half of it) on what it takes of `feed`, and its outputs.

        Raises:
            InputError: If ONNX Runtime cannot load or run it.
        """
        session = open_session(
            model,
            network.name,
            session_options(self.threads),
            folder=network.folder,
            providers=self.providers,
        )
        wanted = {value.name: feed[value.name] for value in session.get_inputs()}
        return lambda: session.run(None, wanted), run(session, wanted, network.name)
