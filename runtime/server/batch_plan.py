"""How many of the waiting frames one batch takes, and whether a newcomer can be answered in time.

Pure: times are arguments. A larger batch is the better use of the device, so everything that fits goes along,
unless that would make frames late which a smaller batch, with the rest right behind it, keeps in time.
"""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.runtime.server.latency_model import LatencyModel


def batch_items(deadlines: Sequence[tuple[float, int]], *, now_s: float, model: LatencyModel) -> int:
    """Return how many of the items to take now, at least one.

    Args:
        deadlines: Deadline and rows of each item that fits into one batch, the earliest first; not empty.
        now_s: The start of the batch, on the deadlines' clock.
        model: Predicts durations.
    """
    everything = len(deadlines)
    total_rows = sum(rows for _, rows in deadlines)
    if now_s + model.predict_s(total_rows) <= deadlines[0][0]:
        return everything
    best, in_time = everything, _in_time(deadlines, now_s + model.predict_s(total_rows))
    # The largest batch that keeps the earliest deadline, then the rest: of the splits that keep the first
    # part's deadlines it delays the rest least.
    allowed = model.largest(deadlines[0][0] - now_s, total_rows)
    items = rows = 0
    while items < everything and rows + deadlines[items][1] <= allowed:
        rows += deadlines[items][1]
        items += 1
    if items in (0, everything):
        return best
    rest_end_s = now_s + model.predict_s(rows) + model.predict_s(total_rows - rows)
    if rows + _in_time(deadlines[items:], rest_end_s) > in_time:
        best = items
    return best


def answered_s(
    *, rows: int, rows_before: int, busy_until_s: float, now_s: float, max_batch: int, model: LatencyModel
) -> float:
    """Return when a newcomer's batch is expected to end.

    Args:
        rows: Its latents.
        rows_before: Latents that are computed before it.
        busy_until_s: When the running batch is expected to end.
        now_s: The time.
        max_batch: Most latents of a batch.
        model: Predicts durations.
    """
    batches, rest = divmod(rows_before, max_batch)
    start_s = max(now_s, busy_until_s) + batches * model.predict_s(max_batch)
    if rest + rows > max_batch:
        return start_s + model.predict_s(rest) + model.predict_s(rows)
    return start_s + model.predict_s(rest + rows)


def _in_time(deadlines: Sequence[tuple[float, int]], end_s: float) -> int:
    return sum(rows for deadline_s, rows in deadlines if deadline_s >= end_s)
