"""What a network costs on a machine: looked up in its profile, or estimated from its speeds.

Decides when a profile knows a network: by the digest of the model, never by its name. What was estimated says
so.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import psutil

from isthmus.partitioner.costs.memory import measure_peak_bytes
from isthmus.partitioner.costs.nodes import measure_costs
from isthmus.partitioner.costs.speeds import fit_speeds
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.network.work import node_work
from isthmus.partitioner.running.execution import random_feed
from isthmus.partitioner.running.providers import CPU, backend_of, choose_provider
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.machines import MachineProfile, NetworkCosts
from isthmus.runtime.machines.processor import processor_name


def node_costs(network: Network, profile: MachineProfile) -> NetworkCosts:
    """Return what `network` costs on the machine of `profile`, for a batch of one.

    Its own table where the machine was profiled with it, else an estimate from the machine's speeds, whose
    `source` is `scaled`.

    Raises:
        ArtifactError: If the profile has neither, or was made of another analysis of the same file.
    """
    own = profile.networks.get(network.digest)
    if own is None:
        return _estimated(network, profile)
    if missing := {node.key for node in network.graph.nodes} ^ set(own.node_s):
        raise ArtifactError(
            f"{profile.name}: its costs of {network.name} do not fit its nodes (e.g. {min(missing)!r}); "
            f"run 'isthmus partition profile {network.name}' there again"
        )
    return own


def profile_network(
    network: Network, *, name: str | None, threads: int, provider: str = "cpu", budget_s: float
) -> MachineProfile:
    """Measure `network` on this machine and return a profile with it and the speeds that follow from it.

    Args:
        network: The network.
        name: What to call this machine; its processor by default.
        threads: Threads of one inference.
        provider: As `choose_provider` takes it.
        budget_s: Seconds to spend, about.

    Raises:
        InputError: If ONNX Runtime cannot run the network, or has no such provider.
    """
    machine = describe_machine(name=name, threads=threads, provider=provider)
    providers = choose_provider(provider)
    costs = measure_costs(network, threads=threads, budget_s=budget_s, providers=providers)
    if providers == CPU:
        inputs = [network.shapes.fact(value.name) for value in network.proto.graph.input]
        feed = random_feed(inputs, np.random.default_rng(0))
        peak = measure_peak_bytes(network.original, network.folder, feed, threads=threads)
        costs = msgspec.structs.replace(costs, peak_bytes=peak)
    return msgspec.structs.replace(machine, operators=fit_speeds([costs]), networks={network.digest: costs})


def describe_machine(*, name: str | None, threads: int, provider: str) -> MachineProfile:
    """Return the profile of this machine before anything is measured on it.

    Raises:
        InputError: If ONNX Runtime has no such provider here.
    """
    providers = choose_provider(provider)
    return MachineProfile(
        name=name or processor_name(),
        origin=(
            "Measured by 'isthmus partition profile': the whole network and real halves end to end, kernels "
            "by ONNX Runtime's profiler; speeds are fitted to the nodes."
        ),
        source="measured",
        processor=processor_name(),
        provider=providers[0],
        backend=backend_of(providers),
        threads=threads,
        memory_bytes=psutil.virtual_memory().total,
    )


def add_profile(
    known: MachineProfile, fresh: MachineProfile, where: str, *, name: str | None = None
) -> MachineProfile:
    """Return `known` with the networks of `fresh`, a new measurement on the same machine.

    Memory and power stay those of `known`, which its owner may have filled in; speeds are fitted to the
    networks of both.

    Args:
        known: What a file holds.
        fresh: What was just measured.
        where: The file, for errors.
        name: A new name for the machine, or None to keep that of `known`.

    Raises:
        ArtifactError: If they are of different machines, or of different ways to use one.
    """
    for field in ("source", "processor", "provider", "backend", "threads"):
        old, new = getattr(known, field), getattr(fresh, field)
        if old != new:
            raise ArtifactError(
                f"{where}: was made with {field} {old!r}, this would be {new!r}; choose another --out"
            )
    networks = known.networks | fresh.networks
    return msgspec.structs.replace(
        known,
        name=name or known.name,
        origin=fresh.origin,
        networks=networks,
        operators=fit_speeds(networks.values()),
    )


def _estimated(network: Network, profile: MachineProfile) -> NetworkCosts:
    node_s: dict[str, float] = {}
    for key, work in node_work(network).items():
        if not work.flops and not work.bytes_moved:
            node_s[key] = 0.0  # it only renames a buffer
            continue
        speed = profile.speed(work.operator)
        if speed is None:
            raise ArtifactError(
                f"{profile.name}: knows {_known(profile)}, not {network.name}, and has no speed of "
                f"{work.operator!r} operators to estimate it; "
                f"run 'isthmus partition profile {network.name}' there"
            )
        node_s[key] = speed.seconds(work.flops, work.bytes_moved)
    whole_s = math.fsum(node_s.values())
    return NetworkCosts(
        source="scaled",
        host=profile.processor,
        backend=profile.backend,
        clock="none",
        threads=profile.threads,
        rounds=0,
        whole_s=whole_s,
        whole_spread_s=0.0,
        kernel_sum_s=whole_s,
        node_s=node_s,
        model=network.name,
    )


def _known(profile: MachineProfile) -> str:
    names = [costs.model or digest[:12] for digest, costs in profile.networks.items()]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "no network"
