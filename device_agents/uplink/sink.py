"""What an uplink asks of its owner."""

from __future__ import annotations

from typing import Protocol

from isthmus.device_agents.uplink.peer import Capability
from isthmus.runtime.wire import Answer
from isthmus.runtime.wire import oip_pb2 as oip


class UplinkSink(Protocol):
    """What the uplink asks of its owner, always on the event loop's thread."""

    def on_connected(self, address: str, capability: Capability) -> None:
        """Note that the server at `address` took the connection and hosts the model.

        Raises:
            PeerError: If what it hosts does not fit.
        """
        ...

    def on_down(self, address: str, reason: str) -> None:
        """Note that there is no connection: it was lost, and all in flight with it, or an attempt failed."""
        ...

    def message(self, frame: int, frame_id: str) -> oip.ModelInferRequest | None:
        """Return the request of a frame that leaves now; None if it must not be sent any more."""
        ...

    def on_answer(self, frame: int, answer: Answer, now_s: float) -> None:
        """Take the server's answer to a frame, perhaps late, perhaps to a frame never sent."""
        ...
