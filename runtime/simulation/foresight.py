"""What a clairvoyant would have got in the same world: the yardstick of every policy's regret."""

from __future__ import annotations

from functools import partial

from isthmus.runtime.control.oracle import Foresight, Shipment, oracle
from isthmus.runtime.simulation.world import DeviceWorld, inside, payload_bytes


def foresee(world: DeviceWorld) -> Foresight:
    """Return the best choices of one who knows the link's whole future and every payload's size.

    Random times count with their medians, and the guard's margin is not subtracted: the clairvoyant needs
    none. Neither does it wait for its own device: where frames come faster than one is computed, nobody
    reaches what it does. Its `utility` is a sum over `world.frames` frames.
    """
    back_s = 2 * (world.delay_s + world.jitter_s.median_s) + world.server.median_s
    back_s += world.server_queue_s.median_s
    heads = {r.point.width_index: world.head(r.point.width_index).median_s for r in world.points.records}
    before_s = world.encode_s.median_s + world.wake_s.median_s
    own = _own_utility(world, heads)
    frames: list[tuple[float, list[Shipment]]] = []
    for instant_s, luck in zip(world.instants(), world.luck(), strict=True):
        shipments = []
        for record in world.points.records:
            ready_s = instant_s + before_s + heads[record.point.width_index]
            latest_s = instant_s + world.deadline_s - back_s
            if latest_s > ready_s and not _cut_off(world, ready_s):
                nbytes = payload_bytes(record, luck) + world.overhead_bytes
                shipments.append(
                    Shipment(utility=record.utility, nbytes=float(nbytes), ready_s=ready_s, latest_s=latest_s)
                )
        frames.append((own, shipments))
    return oracle(frames, partial(world.trace.bytes_between, 0.0))


def _own_utility(world: DeviceWorld, heads: dict[int, float]) -> float:
    """Return what the device's best answer within the deadline is worth."""
    answers = [0.0]
    if world.local is not None and world.points.local is not None:
        answers += [world.points.local.utility] * (world.local.median_s <= world.deadline_s)
    if world.exit is not None:
        exit_s = world.exit.median_s
        answers += [
            answer.utility
            for answer in world.points.exits
            if answer.width_index is not None
            and heads.get(answer.width_index, 0.0) + exit_s <= world.deadline_s
        ]
    return max(answers)


def _cut_off(world: DeviceWorld, at_s: float) -> bool:
    return inside(at_s, world.outages) is not None or inside(at_s, world.busy) is not None
