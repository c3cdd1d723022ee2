"""Run a fleet: in parts, because what one server does is nothing to another."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np

from isthmus.runtime.simulation.fleet.counts import FleetRun
from isthmus.runtime.simulation.fleet.part import SLICE_S, Part
from isthmus.runtime.simulation.fleet.world import FleetWorld

# Arrays of so many frames a slice stay in the processor's caches; smaller ones cost overhead.
_FRAMES_A_SLICE = 20_000
# Fewer would tell nothing of how servers differ by chance.
_LEAST_PARTS, _MOST_PARTS = 8, 64
# Below this a process costs more than it saves.
_FRAMES_WORTH_A_PROCESS = 2_000_000


def run_fleet(world: FleetWorld, *, jobs: int = 1) -> FleetRun:
    """Run `world` and return what became of its frames.

    Args:
        world: The fleet. One that scales by itself runs in one piece, for its servers depend on one another.
        jobs: Processes; the result does not depend on it.
    """
    pieces = parts(world)
    seeds = np.random.SeedSequence(world.seed).spawn(len(pieces))
    total = FleetRun()
    frames = world.devices * world.fps * world.duration_s
    if jobs == 1 or len(pieces) == 1 or frames < _FRAMES_WORTH_A_PROCESS:
        runs: Sequence[FleetRun] = [_run_part(piece, seed) for piece, seed in zip(pieces, seeds, strict=True)]
    else:
        with ProcessPoolExecutor(min(jobs, len(pieces)), mp_context=get_context("spawn")) as pool:
            runs = list(pool.map(_run_part, pieces, seeds))
    for run in runs:
        total.add(run)
    return total


def parts(world: FleetWorld) -> list[FleetWorld]:
    """Return the fleet as smaller ones with the same devices per server, which add up to it."""
    count = 1
    if world.autoscale is None:
        sized = round(world.devices * world.fps * SLICE_S / _FRAMES_A_SLICE)
        count = min(max(_LEAST_PARTS, sized), _MOST_PARTS, world.servers, world.devices)
    found, devices, servers = [], 0, 0
    for number in range(1, count + 1):
        until = world.servers * number // count
        upto = round(world.devices * until / world.servers)
        if upto == devices:
            continue  # fewer devices than servers: these servers go with the next part
        found.append(replace(world, devices=upto - devices, servers=until - servers))
        devices, servers = upto, until
    if servers < world.servers:
        found[-1] = replace(found[-1], servers=found[-1].servers + world.servers - servers)
    return found


def _run_part(world: FleetWorld, seed: np.random.SeedSequence) -> FleetRun:
    return Part(world, seed).run()
