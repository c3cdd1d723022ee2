"""The clairvoyant: the most that any policy could have got from a link, knowing its whole future.

Not a `Policy`, for it sees what no device can see; every comparison needs it as the upper end. The link is
one queue, first in, first out, that is never idle while something waits. Then all of its state is one number,
how many bytes it will have carried when it is next free, and an answer is in time exactly if the bytes up to
the end of its frame are at most what the link carries until the latest instant at which they may leave.
Without a division and without a search in the trace, an exact dynamic program over that number is quick: of
two states the one that is free no earlier and has gained no more is dominated, and few remain.

Heads are taken to be done in the order of their frames, each before the next frame is captured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Utilities that differ by less are equal: sums in another order differ by rounding, and would never be
# pruned.
_EQUAL_UTILITY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """One way to send one frame.

    Attributes:
        utility: What its answer is worth if it is in time.
        nbytes: Bytes on the wire, overhead included.
        ready_s: When the payload is there to be sent.
        latest_s: The latest instant at which its last byte may leave: the deadline less propagation, the
            server's time and the way back.
    """

    utility: float
    nbytes: float
    ready_s: float
    latest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What the clairvoyant gets.

    Attributes:
        utility: Sum over all frames.
        choices: Per frame the index of the shipment it takes, None for the device's own answer.
    """

    utility: float
    choices: tuple[int | None, ...]


# Bytes carried when the link is next free, utility so far, and the choices that led there, last one first.
_Chain = tuple[int | None, "_Chain | None"]
_State = tuple[float, float, "_Chain | None"]


def oracle(
    frames: Sequence[tuple[float, Sequence[Shipment]]], carried: Callable[[float], float]
) -> Foresight:
    """Return the choices of greatest total utility.

    Args:
        frames: Per frame, in the order of capture, what the device's own answer is worth (0 if it has none)
            and the ways to send it.
        carried: Bytes that the link can carry from the beginning until an instant in seconds; never falls.
            Of a `RateTrace` it is `functools.partial(trace.bytes_between, 0.0)`.
    """
    states: list[_State] = [(0.0, 0.0, None)]
    for own_utility, shipments in frames:
        # What is free before the first payload is ready is free: those states are one.
        idle = min((carried(shipment.ready_s) for shipment in shipments), default=0.0)
        reached: list[_State] = [
            (max(free, idle), gained + own_utility, (None, chain)) for free, gained, chain in states
        ]
        for index, shipment in enumerate(shipments):
            if shipment.utility <= own_utility:
                continue
            begin, end = carried(shipment.ready_s), carried(shipment.latest_s)
            for free, gained, chain in states:
                until = max(free, begin) + shipment.nbytes
                if until <= end:
                    reached.append((until, gained + shipment.utility, (index, chain)))
        states = _undominated(reached)
    _, utility, chain = states[-1]
    return Foresight(utility=utility, choices=_unchain(chain))


def _undominated(states: list[_State]) -> list[_State]:
    """Return the states, by rising bytes and utility, that no other one beats in both."""
    states.sort(key=lambda state: (state[0], -state[1]))
    kept: list[_State] = []
    best = -1.0
    for state in states:
        if state[1] > best + _EQUAL_UTILITY:
            kept.append(state)
            best = state[1]
    return kept


def _unchain(chain: _Chain | None) -> tuple[int | None, ...]:
    choices: list[int | None] = []
    while chain is not None:
        choice, chain = chain
        choices.append(choice)
    return tuple(reversed(choices))
