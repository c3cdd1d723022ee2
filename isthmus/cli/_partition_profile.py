"""`isthmus partition profile`: measure what a network costs on this machine, into a file that travels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isthmus.cli._common import JsonFlag, out, print_json
from isthmus.cli._network_source import (
    ClassesOption,
    DatasetOption,
    DimOption,
    ImageOption,
    ModelArgument,
    ModelOption,
    WeightsOption,
    network_source,
)
from isthmus.cli._progress import progress
from isthmus.runtime.units import format_duration

if TYPE_CHECKING:
    from isthmus.runtime.machines import MachineProfile, NetworkCosts

_DEAREST = 8


def profile(
    model_file: ModelArgument = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    dataset: DatasetOption = None,
    classes: ClassesOption = None,
    image: ImageOption = None,
    dim: DimOption = None,
    profile_file: Annotated[
        Path, typer.Option("--out", help="The profile to write, or to add this network to.")
    ] = Path("machine.json"),
    name: Annotated[
        str | None, typer.Option(help="What to call this machine; default: its processor.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of an inference.")] = 1,
    provider: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"],
        typer.Option(help="What to run on; auto: CUDA where this ONNX Runtime has it, else cpu."),
    ] = "auto",
    budget: Annotated[str, typer.Option(help="Time to spend on measuring, about.")] = "20s",
    as_json: JsonFlag = False,
) -> None:
    """Measure every node of a network, and the whole, on this machine; write or extend its profile.

    Run it on the device, copy the file, and give it to `isthmus partition --device FILE` elsewhere.
    """
    from isthmus.cli._partition_flags import sizes
    from isthmus.partitioner.costs.lookup import add_profile, describe_machine, profile_network
    from isthmus.partitioner.network.model import load_network
    from isthmus.runtime.machines import load_machine, write_machine
    from isthmus.runtime.units import parse_duration_s

    budget_s, dims = parse_duration_s(budget), sizes(dim)
    known = load_machine(profile_file.resolve()) if profile_file.exists() else None
    if known is not None:  # better refused now than after measuring
        here = describe_machine(name=name, threads=threads, provider=provider)
        add_profile(known, here, str(profile_file))
    with network_source(model_file, model, weights, dataset, classes, image, sizes=dims) as source:
        network = load_network(source.path, sizes=dims)
        with progress(f"measuring {network.name}"):
            fresh = profile_network(network, name=name, threads=threads, provider=provider, budget_s=budget_s)
    machine = fresh if known is None else add_profile(known, fresh, str(profile_file), name=name)
    write_machine(profile_file, machine)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(machine))
        return
    _print(machine, machine.networks[network.digest])
    count = len(machine.networks)
    networks = f"{count} network{'s' * (count > 1)}"
    out.print(f"{profile_file}: {machine.name}, {networks}", soft_wrap=True, markup=False)


def _print(machine: MachineProfile, costs: NetworkCosts) -> None:
    from rich.table import Table

    plural = "s" * (costs.threads != 1)
    out.print(
        f"{costs.model} on {machine.processor}: {format_duration(costs.whole_s)} "
        f"(±{format_duration(costs.whole_spread_s / 2)}), {costs.threads} thread{plural}, "
        f"{costs.clock} clock",
        markup=False,
    )
    out.print(f"{costs.backend}; real halves at {len(costs.anchors)} cuts", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("node", no_wrap=True, overflow="ellipsis", max_width=40)
    table.add_column("class", no_wrap=True)
    for title in ("ms", "share", "Mflop"):
        table.add_column(title, justify="right", no_wrap=True)
    dearest = sorted(costs.node_s, key=lambda key: -costs.node_s[key])
    for key in dearest[:_DEAREST]:
        seconds, work = costs.node_s[key], costs.work[key]
        share = seconds / costs.whole_s if costs.whole_s else 0.0
        table.add_row(key, work.operator, f"{seconds * 1e3:.3g}", f"{share:.1%}", f"{work.flops / 1e6:.3g}")
    out.print(table)
    rest = sum(costs.node_s[key] for key in dearest[_DEAREST:])
    if rest:
        out.print(f"and {len(dearest) - _DEAREST} more nodes, {format_duration(rest)} together")
