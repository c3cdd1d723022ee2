"""What our server and wire add to a frame's way: round trips with a tail that takes no time.

Options:
    rounds: How often every road is taken at every size.
    trips: Frames a road and size per round.
    pin: "" (anywhere) or "apart": the client on the first core, every server on the second.

Every server is a process of its own on loopback, this process is the client of all of them, and the roads
take turns: within a round, at each size, each sends `trips` frames one after the other. All do the same job,
`size` bytes there and ten float32 back, but for `tcp_echo`, which sends everything back:

- `tcp`, `tcp_echo`: blocking sockets, no event loop. The floor.
- `grpc`: a bidirectional stream of bytes between two bare grpc.aio programs, with the engine and the event
  loops that our processes choose; `grpc_plain`: the same as gRPC and asyncio come, in processes of their own.
- `ours`: an encoded payload (codec `raw`, whose decoding is a copy) in the short form, to `isthmus serve`'s
  own server with a null tail; `ours_latent`: the plain form any server takes; `ours_mtls`: `ours` inside
  mutual TLS.
- `triton`: its gRPC stream and a null model of its Python backend; `mlserver`: single calls, since its stream
  is of another kind, and a null runtime. Where `scripts/peers` has not made them, they are listed as missing.

A round trip begins before the message is built and ends when its answer is parsed. `server_cpu_per_trip` is
the processor time of all threads of a server, which neighbours lengthen less than they do a round trip.
`stages` comes from another process of our server, which notes the instants of every frame; noting them costs
some microseconds, so that its `total_s` is a little above `ours`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _peers import round_trips as trips_by
from _peers import servers
from _peers.children import Child, Cores, on_cores, usable_cores
from _peers.places import PROJECT, missing
from _peers.stages import TracedStream, stage_table

from isthmus.device_agents.clock import run_exactly
from isthmus.runtime.errors import InputError
from isthmus.runtime.server.authority import issue_device, issue_server, make_authority
from isthmus.runtime.wire.tls import ClientSecurity

SIZES = (300, 3_000, 10_000, 100_000)
_QUICK_SIZES = (300, 100_000)
# Of raw TCP's round trip, at most.
TARGET = 5.0
AIM = 3.0
PEERS = ("triton", "mlserver")
_WARM_TRIPS = 30
# Roads that end at another's server.
_SERVER_OF = {"tcp_echo": "tcp", "ours_latent": "ours"}

Roads = dict[tuple[str, int], trips_by.Road]


def run(*, quick: bool = False, rounds: int = 20, trips: int = 100, pin: str = "") -> dict[str, Any]:
    """Return round trips, their ratios to raw TCP, and where the time goes.

    Raises:
        InputError: If `pin` is unknown, or there is only one core to pin to.
        BackendError: If a server does not start.
        GateError: If an answer is wrong.
    """
    sizes = _QUICK_SIZES if quick else SIZES
    if quick:
        rounds, trips = 2, 20
    here, there = _cores(pin)
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = _bundles(folder, sizes)
        trace = folder / "trace.json"
        started = _start(stack, folder, bundles, there)
        traced = servers.ours_null(bundles, "--trace", trace, cores=there)
        stack.callback(traced.end)
        with on_cores(here):
            taken, client, cpu_s = run_exactly(_measure(started, traced, folder, sizes, rounds, trips))
        traced.end()
        server = json.loads(trace.read_text())
    figures = {
        f"{size}_bytes": {
            "payload_bytes": len(trips_by.payload_of(size)),
            "round_trip": {f"{road}_s": _spread(taken[road, size]) for road in _roads_of(taken)},
            "server_cpu_per_trip": {f"{road}_s": cpu_s[road, size] for road in _roads_of(taken)},
            "stages": stage_table(client[size], server, skipped=_WARM_TRIPS),
        }
        for size in sizes
    }
    return {
        "figures": {
            "rounds": rounds,
            "trips_per_round": trips,
            "pin": pin or "none",
            "missing": ", ".join(missing(PEERS)) or "none",
            "target_over_tcp": TARGET,
            "sizes": figures,
        },
        "ratios": _ratios(figures),
    }


def _cores(pin: str) -> tuple[Cores | None, Cores | None]:
    if pin not in ("", "apart"):
        raise InputError(f"pin={pin}: give apart, or leave it out")
    if not pin:
        return None, None
    cores = usable_cores()
    if len(cores) < 2:
        raise InputError("pin=apart needs two cores")
    return frozenset(cores[:1]), frozenset(cores[1:2])


def _bundles(folder: Path, sizes: tuple[int, ...]) -> list[Path]:
    """Write a bundle `null-SIZE` per size; only names and tables of them are used."""
    spec = importlib.util.spec_from_file_location("tiny_bundle", PROJECT / "tests/tiny_bundle.py")
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    return [tiny.make_bundle(folder / f"null-{size}", name=f"null-{size}") for size in sizes]


def _start(
    stack: contextlib.ExitStack, folder: Path, bundles: list[Path], cores: Cores | None
) -> dict[str, Child]:
    tls = folder / "tls"
    make_authority(tls)
    issue_server(tls, "server", ["127.0.0.1"])
    issue_device(tls, "device")
    absent = missing(PEERS)
    started = {
        "tcp": servers.floor("tcp", cores=cores),
        "grpc": servers.floor("grpc", cores=cores),
        "grpc_plain": servers.floor("grpc-plain", cores=cores),
        "ours": servers.ours_null(bundles, cores=cores),
        "ours_mtls": servers.ours_null(bundles, "--tls", tls, cores=cores),
    }
    for child in started.values():
        stack.callback(child.end)
    for peer, start in (("triton", servers.triton_null), ("mlserver", servers.mlserver_null)):
        if peer not in absent:
            started[peer] = start(folder / peer, cores=cores)
            stack.callback(started[peer].end)
    return started


def _open(started: Mapping[str, Child], folder: Path, size: int) -> dict[str, trips_by.Road]:
    security = ClientSecurity(
        authority=folder / "tls/authority.pem",
        certificate=folder / "tls/device.pem",
        key=folder / "tls/device.key",
    )
    # A payload of this size goes over every road, so that all carry the same.
    bytes_there = len(trips_by.payload_of(size))
    ours, lean = started["ours"].address, trips_by.lean_frames(size)
    roads: dict[str, trips_by.Road] = {
        "tcp": trips_by.Tcp(started["tcp"].port, bytes_there, trips_by.ANSWER_BYTES),
        "tcp_echo": trips_by.Tcp(started["tcp"].port, bytes_there, bytes_there),
        "grpc": trips_by.BareGrpc(started["grpc"].address, bytes_there),
        "grpc_plain": trips_by.PlainGrpc(started["grpc_plain"].address, bytes_there),
        "ours": trips_by.Stream(ClientSecurity().channel(ours), lean, lean=True),
        "ours_latent": trips_by.Stream(
            ClientSecurity().channel(ours), trips_by.latent_frames(size, f"null-{size}")
        ),
        "ours_mtls": trips_by.Stream(security.channel(started["ours_mtls"].address), lean, lean=True),
    }
    latent = trips_by.latent_frames(size, "null", budget=False)
    if "triton" in started:
        roads["triton"] = trips_by.Stream(trips_by.plain_channel(started["triton"].address), latent)
    if "mlserver" in started:
        roads["mlserver"] = trips_by.Unary(trips_by.plain_channel(started["mlserver"].address), latent)
    return roads


async def _measure(
    started: Mapping[str, Child],
    traced: Child,
    folder: Path,
    sizes: tuple[int, ...],
    rounds: int,
    trips: int,
) -> tuple[dict[tuple[str, int], list[int]], dict[int, Any], dict[tuple[str, int], float]]:
    taken: dict[tuple[str, int], list[int]] = defaultdict(list)
    cpu_s: dict[tuple[str, int], float] = defaultdict(float)
    roads = {size: _open(started, folder, size) for size in sizes}
    streams = {
        size: TracedStream(
            ClientSecurity().channel(traced.address), trips_by.lean_frames(size), prefix=f"{size}-"
        )
        for size in sizes
    }
    for size in sizes:
        for _ in range(_WARM_TRIPS):
            for road in roads[size].values():
                await road.once()
            await streams[size].once()
    for _ in range(rounds):
        for size in sizes:
            for name, road in roads[size].items():
                server = started[_SERVER_OF.get(name, name)]
                before_s = server.cpu_s()
                taken[name, size] += await road.several(trips)
                cpu_s[name, size] += (server.cpu_s() - before_s) / (trips * rounds)
            for _ in range(trips):
                await streams[size].once()
    for size in sizes:
        for road in roads[size].values():
            await road.close()
        await streams[size].close()
    return taken, {size: stream.marks for size, stream in streams.items()}, cpu_s


def _roads_of(taken: Mapping[tuple[str, int], list[int]]) -> list[str]:
    return list(dict.fromkeys(road for road, _ in taken))


def _spread(nanoseconds: list[int]) -> dict[str, float]:
    names = ("first_quartile", "median", "third_quartile", "p90", "p99")
    values = np.percentile(np.array(nanoseconds) / 1e9, (25, 50, 75, 90, 99))
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _ratios(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return medians over raw TCP's and over ours, per size, and whether the targets are met at all sizes."""
    ratios: dict[str, Any] = {}
    for size, figure in figures.items():
        trips = {road[:-2]: spread["median"] for road, spread in figure["round_trip"].items()}
        ratios[size] = {
            "over_tcp": {road: trip / trips["tcp"] for road, trip in trips.items() if road != "tcp"},
            "ours_over_tcp_echo": trips["ours"] / trips["tcp_echo"],
            "ours_over_grpc": trips["ours"] / trips["grpc"],
            "ours_over_grpc_plain": trips["ours"] / trips["grpc_plain"],
            "peer_over_ours": {peer: trips[peer] / trips["ours"] for peer in PEERS if peer in trips},
        }
    worst = max(ratio["over_tcp"]["ours"] for ratio in ratios.values())
    leads = [lead for ratio in ratios.values() for lead in ratio["peer_over_ours"].values()]
    ratios["worst_over_tcp"] = worst
    ratios["target_met"] = worst <= TARGET
    ratios["aim_met"] = worst <= AIM
    if leads:
        ratios["ahead_of_peers"] = min(leads) > 1.0
    return ratios
