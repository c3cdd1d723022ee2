"""The device and the server of a plan: where each one's times come from.

A machine is this one, measured now and possibly scaled, or another one that is known by its profile. Decides
which it is; nothing else in a plan has to ask.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isthmus.partitioner.costs.lookup import node_costs
from isthmus.partitioner.costs.nodes import measure_costs
from isthmus.partitioner.facts import DeviceProfile, MachineFacts
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.running.runner import Runner
from isthmus.runtime.machines import MachineProfile, NetworkCosts, Power, load_machine
from isthmus.runtime.machines.processor import processor_name

# The name that stands for the machine that makes the plan.
THIS = "this"

MachineSpec = str | os.PathLike[str] | MachineProfile | DeviceProfile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A machine with what the network costs on it.

    Attributes:
        facts: What a plan says of it.
        costs: The network's, as measured or estimated; of this machine before its speed is applied.
        runner: How to run halves as it would, or None where it is another machine.
        profile: The profile of another machine, or None for this one.
    """

    facts: MachineFacts
    costs: NetworkCosts
    runner: Runner | None
    profile: MachineProfile | None = None

    @property
    def whole_s(self) -> float:
        """Seconds of the whole network."""
        return self.costs.whole_s / self.facts.speed

    def nodes_s(self) -> Mapping[str, float]:
        """Return the seconds of every node; they sum to `whole_s`."""
        return {key: seconds / self.facts.speed for key, seconds in self.costs.node_s.items()}

    def head_s(self, nodes: Iterable[str]) -> float:
        """Return the predicted seconds of a head of `nodes`, with what the cut adds."""
        return self.costs.head_s(nodes) / self.facts.speed

    def tail_s(self, nodes: Iterable[str]) -> float:
        """Return the predicted seconds of a tail of `nodes`, with what the cut adds."""
        return self.costs.tail_s(nodes) / self.facts.speed

    def here_s(self, seconds: float) -> float:
        """Return `seconds` that were measured on this machine as they would be on the side's."""
        return seconds / self.facts.speed


def resolve_profile(spec: MachineSpec, role: str) -> MachineProfile | DeviceProfile:
    """Return the machine that `spec` means: a profile, its file or name, or this one (`this` or None).

    Args:
        spec: The machine.
        role: What to call this machine where `spec` has no name for it.

    Raises:
        ArtifactError: If there is no such file or name, or it is no profile.
    """
    if spec is None or spec == THIS:
        return DeviceProfile(name=role)
    return spec if isinstance(spec, DeviceProfile | MachineProfile) else load_machine(spec)


class SideMaker:
    """Makes the sides of one network; what both need measured here is measured once."""

    def __init__(self, network: Network, *, budget_s: float) -> None:
        """Prepare for `network`; measuring may take about `budget_s` seconds per number of threads."""
        self._network, self._budget_s = network, budget_s
        self._measured: dict[int, NetworkCosts] = {}

    def make(self, machine: MachineProfile | DeviceProfile, power: Power | None = None) -> Side:
        """Return the side of `machine`, which draws `power` where that is given.

        Raises:
            InputError: If ONNX Runtime cannot run the network.
            ArtifactError: If the machine's profile can neither give nor estimate the network's costs.
        """
        return (
            self._here(machine, power) if isinstance(machine, DeviceProfile) else self._there(machine, power)
        )

    def whole_here_s(self, threads: int) -> float:
        """Return the seconds of the whole network on this machine."""
        return self._costs(threads).whole_s

    def _costs(self, threads: int) -> NetworkCosts:
        if threads not in self._measured:
            self._measured[threads] = measure_costs(self._network, threads=threads, budget_s=self._budget_s)
        return self._measured[threads]

    def _here(self, machine: DeviceProfile, power: Power | None) -> Side:
        costs = self._costs(machine.threads)
        scaled = machine.speed != 1.0
        facts = MachineFacts(
            name=machine.name,
            here=True,
            source="scaled" if scaled else "measured",
            origin=f"measured here and divided by {machine.speed:g}" if scaled else "measured here",
            processor=processor_name(),
            backend=costs.backend,
            threads=machine.threads,
            speed=machine.speed,
            power=power,
        )
        return Side(facts=facts, costs=costs, runner=Runner(threads=machine.threads))

    def _there(self, machine: MachineProfile, power: Power | None) -> Side:
        costs = node_costs(self._network, machine)
        estimated = costs.source == "scaled"
        facts = MachineFacts(
            name=machine.name,
            here=False,
            source="scaled" if estimated else machine.source,
            origin=(
                f"estimated from its speeds by class of operators; {machine.origin}"
                if estimated
                else machine.origin
            ),
            processor=machine.processor,
            backend=machine.backend,
            threads=costs.threads,
            memory_bytes=machine.memory_bytes,
            power=power or machine.power,
        )
        return Side(facts=facts, costs=costs, runner=None, profile=machine)
