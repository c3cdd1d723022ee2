"""The device profile that `isthmus profile` leaves behind, in the one format of machine profiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.device_agents.profiling.bundle_run import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The profile that was asked for.

    Attributes:
        file: Where; None: nowhere in particular.
        name: What to call the machine; None: its processor.
        threads, provider: How networks are run.
    """

    file: Path | None
    name: str | None
    threads: int
    provider: Any


def check_machine(machine: Machine) -> None:
    """Read the file that is to be added to, so that a damaged one is refused before measuring.

    Raises:
        ArtifactError: If it is no machine profile.
    """
    from isthmus.runtime.machines import load_machine

    if machine.file is not None and machine.file.exists():
        load_machine(machine.file.resolve())


def write_bundle_machine(machine: Machine, bundle: Path, profile: Profile, provider: str) -> Path | None:
    """Write, or add to, the profile with what was measured of a bundle; return the file, if there is one.

    Raises:
        ArtifactError: If the file is of another machine.
        InputError: If it cannot be written.
    """
    if machine.file is None:
        return None
    import onnxruntime

    import isthmus
    from isthmus.device_agents.profiling.machine_file import add_networks, bundle_machine
    from isthmus.runtime.bundle import load_bundle
    from isthmus.runtime.machines import load_machine, write_machine
    from isthmus.runtime.machines.processor import processor_name

    processor = processor_name()
    fresh = bundle_machine(
        load_bundle(bundle),
        profile.figures,
        name=machine.name or processor,
        processor=processor,
        provider=provider,
        backend=f"ONNX Runtime {onnxruntime.__version__}, {provider}",
        threads=machine.threads,
        idle_w=profile.idle_w,
        isthmus_version=isthmus.__version__,
    )
    if machine.file.exists():
        fresh = add_networks(load_machine(machine.file.resolve()), fresh, str(machine.file))
    write_machine(machine.file, fresh)
    return machine.file


def write_network_machine(
    machine: Machine,
    model: Path,
    dim: list[str],
    *,
    default: Path,
    budget_s: float,
    note: Callable[[str], None],
) -> Path | None:
    """Measure the nodes of a plain network and write, or add to, the profile, as `isthmus partition profile`.

    Without onnx there are no nodes to be seen: then nothing is written, unless a file was asked for.

    Args:
        machine: What was asked for.
        model: The network.
        dim: Sizes of its symbolic dimensions, as text.
        default: The file, if none was asked for.
        budget_s: Seconds to spend on its nodes, about.
        note: Takes one line for people.

    Raises:
        MissingExtraError: If it was, and onnx is missing.
        ArtifactError: If the file is of another machine.
        InputError: If the network cannot be run, or the file not be written.
    """
    from isthmus.runtime.errors import MissingExtraError

    try:
        from isthmus.partitioner.costs.lookup import add_profile, profile_network
        from isthmus.partitioner.network.model import load_network
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        if machine.file is not None:
            raise MissingExtraError(f"--machine {machine.file} of a plain network", "partition") from None
        note("no device profile was written: that takes onnx (pip install 'isthmus[partition]')")
        return None
    from isthmus.cli._partition_flags import sizes
    from isthmus.runtime.machines import load_machine, write_machine

    file = machine.file or default
    known = load_machine(file.resolve()) if file.exists() else None
    network = load_network(model, sizes=sizes(dim))
    fresh = profile_network(
        network,
        name=machine.name,
        threads=machine.threads,
        provider=machine.provider,
        budget_s=budget_s,
    )
    write_machine(file, fresh if known is None else add_profile(known, fresh, str(file), name=machine.name))
    return file
