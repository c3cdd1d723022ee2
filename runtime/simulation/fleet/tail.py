"""The tails of a fleet, batch by batch, by the rules of the real batcher.

One function in plain Python over rows of numbers. numba compiles it where it is installed (extra `scale`);
without it the same source runs on lists, slower, with the same result to the bit.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

# Rows of `frames` and of a server's `waiting`.
DEADLINE, HIT_BY, ORIGIN, ARRIVAL = 0, 1, 2, 3
# Rows of `servers`: when the tail is free, and seconds it has computed.
FREE, COMPUTED = 0, 1
# Entries of `counts`.
SERVED, EXPIRED, BUSY, BATCHES = 0, 1, 2, 3


def serve(
    until_s: float,
    bounds: Any,
    frames: Any,
    device: Any,
    servers: Any,
    places: Any,
    waiting: Any,
    waiting_device: Any,
    rules: tuple[float, float, int, int, bool],
    noise: Any,
    counts: Any,
    done: Any,
    done_device: Any,
    refused: Any,
) -> tuple[int, int]:
    """Serve what arrives until `until_s`, and start every batch that begins before it.

    It is one function, and long, because numba compiles functions one by one and lists know no slices of
    several rows.

    Args:
        until_s: The end of the slice; what has arrived by then is in `frames`.
        bounds: Where each server's frames begin, and the end of the last one's.
        frames: Rows of seconds: the budget's end on the server's side, when the answer must leave the server
            to count, capture less the way back, arrival; by server, then by arrival.
        device: Whose they are.
        servers: Rows of seconds per server: when its tail is free, what it has computed.
        places: Rows per server: where its waiting frames begin and end.
        waiting: Per server, rows like those of `frames`, by deadline between their places.
        waiting_device: Per server, whose they are.
        rules: Seconds a frame, seconds a batch, most frames a batch, most that wait, admission by prediction.
        noise: Factors of the batches' times, used in turn.
        counts: Frames served, expired, refused, and batches; added to.
        done: Rows per served frame: seconds from capture to answer, and 1 if it counts; written from 0.
        done_device: Whose they are.
        refused: Indices of refused frames, written from 0.

    Returns:
        How many frames were served, and how many refused.
    """
    deadline_s, hit_by_s, origin_s, arrival_s = frames[0], frames[1], frames[2], frames[3]
    latency_s, counted = done[0], done[1]
    frame_s, batch_s, max_batch, capacity, predicted = rules
    served, refusals = 0, 0
    for server in range(len(bounds) - 1):
        index, end = bounds[server], bounds[server + 1]
        free, first, last = servers[0][server], places[0][server], places[1][server]
        deadlines, hits, origins = waiting[server][0], waiting[server][1], waiting[server][2]
        devices = waiting_device[server]
        while True:
            stop = end
            if last > first:
                start = free
            elif index < end:
                start = max(free, arrival_s[index])
                if start > free:
                    stop = index + 1  # who finds the tail idle starts a batch alone
            else:
                break
            limit = min(start, until_s)
            while index < stop and arrival_s[index] <= limit:
                now = arrival_s[index]
                if last - first >= capacity:
                    while last > first and deadlines[first] <= now:
                        first += 1
                        counts[1] += 1
                refuse = last - first >= capacity
                if predicted and not refuse:
                    ahead = last - first
                    ready = max(free, now) + (ahead // max_batch + 1) * batch_s + (ahead + 1) * frame_s
                    refuse = ready > deadline_s[index]
                if refuse:
                    refused[refusals] = index
                    refusals += 1
                    counts[2] += 1
                    index += 1
                    continue
                if last == len(devices):
                    for place in range(first, last):
                        deadlines[place - first] = deadlines[place]
                        hits[place - first] = hits[place]
                        origins[place - first] = origins[place]
                        devices[place - first] = devices[place]
                    first, last = 0, last - first
                place = last
                while place > first and deadlines[place - 1] > deadline_s[index]:
                    deadlines[place] = deadlines[place - 1]
                    hits[place] = hits[place - 1]
                    origins[place] = origins[place - 1]
                    devices[place] = devices[place - 1]
                    place -= 1
                deadlines[place] = deadline_s[index]
                hits[place] = hit_by_s[index]
                origins[place] = origin_s[index]
                devices[place] = device[index]
                last += 1
                index += 1
            if start >= until_s:
                break
            while last > first and deadlines[first] <= start:
                first += 1
                counts[1] += 1
            size = min(max_batch, last - first)
            if size == 0:
                continue
            taken = (batch_s + size * frame_s) * noise[counts[3] % len(noise)]
            free = start + taken
            servers[1][server] += taken
            counts[0] += size
            counts[3] += 1
            for place in range(first, first + size):
                latency_s[served] = free - origins[place]
                counted[served] = 1.0 if free <= hits[place] else 0.0
                done_device[served] = devices[place]
                served += 1
            first += size
        servers[0][server], places[0][server], places[1][server] = free, first, last
    return served, refusals


@cache
def compiled() -> Callable[..., Any] | None:
    """Return `serve` as machine code; None without numba."""
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return None
    code: Callable[..., Any] = numba.njit(nogil=True, cache=True)(serve)
    return code
