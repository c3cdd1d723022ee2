"""What sending one frame at an operating point is worth, by itself: p·u + (1 − p)·u_device.

Pure. p is the probability that the server's answer comes before the device would have to begin its own. Which
answer of its own the device should keep ready is part of the choice: a slow one leaves less time to wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.outlook import Outlook
from isthmus.runtime.control.types import DeviceState, Fallback, LinkEstimate

# Some frames are late whatever was predicted: between equals, one with a fallback is better.
_MOST_CERTAIN = 0.999
# With a fallback that takes at most this share of the budget there is no point in doing without one.
_NEXT_TO_NOTHING = 0.05
# A server whose tail computes nearly all the time is about to make frames wait: for up to one more of its
# times.
_BUSY_LOAD = 0.8

# Worth, probability of an answer in time, fallback and its seconds.
Weighed = tuple[float, float, Fallback | None, float]


class Columns:
    """The measured table by columns, in the order of its records.

    Attributes:
        points, widths: Operating points, and their width indices.
        utility: Accuracy of the server's answer.
        nbytes: Mean payload bytes. They vary far less than the rate does: to reckon with the 95th percentile
            cost 0.1 points of regret on the tuning traces, most of it under short deadlines.
        exits: Accuracy of the early exit behind the point's head; None without one.
        local: Accuracy of the whole network on the device; None without it.
        by_size: Indices by rising bytes, of equals the more useful first, then the quicker head.
    """

    def __init__(self, table: PointTable) -> None:
        """Read `table`."""
        self.points = [record.point for record in table.records]
        self.widths = [point.width_index for point in self.points]
        self.utility = [record.utility for record in table.records]
        self.nbytes = [record.bytes_mean for record in table.records]
        exits = {answer.width_index: answer.utility for answer in table.exits}
        self.exits = [exits.get(width) for width in self.widths]
        self.local = None if table.local is None else table.local.utility
        heads_s = [record.head_s for record in table.records]
        self.by_size = sorted(
            range(len(self.points)), key=lambda i: (self.nbytes[i], -self.utility[i], heads_s[i])
        )


class FrameWorth:
    """One frame at one instant.

    Attributes:
        outlook: The link; None if nothing is known of it, or it is dead.
        ready_s: Per point, seconds until its payload is there.
        own_utility: The most that any answer of the device's own can be worth.
    """

    __slots__ = (
        "_budget_s",
        "_columns",
        "_fallbacks",
        "_overhead_bytes",
        "outlook",
        "own_utility",
        "ready_s",
    )

    def __init__(self, columns: Columns, link: LinkEstimate, device: DeviceState, budget_s: float) -> None:
        """Take the facts of the frame at hand; `budget_s` is what remains until its deadline."""
        self._columns = columns
        self._overhead_bytes = link.overhead_bytes
        self.outlook = Outlook.of(link)
        heads, encode_s = device.head_s, device.encode_s
        self.ready_s = [heads[width] + encode_s for width in columns.widths]
        crowd = max(0.0, (device.server_load or 0.0) - _BUSY_LOAD) / (1.0 - _BUSY_LOAD)
        trip_s = (link.rtt_s or 0.0) + device.server_s * (1.0 + crowd)
        self._budget_s = budget_s - trip_s
        fallbacks: list[tuple[Fallback | None, float, Sequence[float | None]]] = []
        if device.exit_s is not None and any(own is not None for own in columns.exits):
            fallbacks.append(("exit", device.exit_s, columns.exits))
        if device.local_s is not None and columns.local is not None:
            fallbacks.append(("local", device.local_s, [columns.local] * len(columns.points)))
        owns = [own for _, _, column in fallbacks for own in column if own is not None]
        self.own_utility = max(owns, default=0.0)
        # A fallback must be done by the deadline whatever becomes of the round trip.
        self._fallbacks = [(kind, need_s, budget_s - need_s, column) for kind, need_s, column in fallbacks]

    def weigh(self, index: int) -> Weighed:
        """Return what sending the frame at the point `index` is worth, and with which fallback."""
        columns, outlook, ready_s = self._columns, self.outlook, self.ready_s[index]
        utility = columns.utility[index]
        wire_bytes = columns.nbytes[index] + self._overhead_bytes
        best: Weighed = (-1.0, 0.0, None, 0.0)
        cheap = False
        for kind, need_s, latest_s, column in self._fallbacks:
            own = column[index]
            if own is None or ready_s > latest_s:
                continue
            cheap = cheap or need_s <= _NEXT_TO_NOTHING * latest_s
            p = self._in_time(wire_bytes, ready_s, need_s, outlook)
            worth = p * utility + (1.0 - p) * own
            if worth > best[0]:
                best = (worth, p, kind, need_s)
        if not cheap:
            p = self._in_time(wire_bytes, ready_s, 0.0, outlook)
            if p * utility > best[0]:
                best = (p * utility, p, None, 0.0)
        return best

    def _in_time(self, wire_bytes: float, ready_s: float, need_s: float, outlook: Outlook | None) -> float:
        """Return the probability that the frame is answered `need_s` before its deadline."""
        left_s = self._budget_s - need_s
        own_s = left_s - ready_s
        if outlook is None or own_s <= 0:
            return 0.0
        rate = wire_bytes / own_s
        if outlook.queued_bytes:
            all_s = left_s + outlook.serving_s
            if all_s <= 0:
                return 0.0
            rate = max(rate, (outlook.queued_bytes + wire_bytes) / all_s)
        return min(_MOST_CERTAIN, outlook.probability(rate))
