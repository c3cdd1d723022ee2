"""Where a torch network can be cut at one tensor, and the two halves there.

A cut is named by the module whose output it is. Knows nothing of cost: the partitioner weighs, this only says
what is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from isthmus.runtime.errors import PlanError

# A class token, and a distillation token beside it.
_MAX_CLASS_TOKENS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSite:
    """A tensor through which everything passes.

    Attributes:
        name: Path of the outermost module whose output it is, e.g. `layer2.0`.
        shape_chw: Its shape for one image; of tokens, their length and the grid that they cover.
        aliases: Other module paths with the same output.
        class_tokens: Of tokens [n, t, d], how many stand before those of the grid; None for a feature map.
    """

    name: str
    shape_chw: tuple[int, int, int]
    aliases: tuple[str, ...] = ()
    class_tokens: int | None = None


class _NamingTracer(fx.Tracer):
    """A tracer that remembers which node each module, also a container, returned."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, fx.Node]] = []

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_module(m, forward, args, kwargs)
        if isinstance(result, fx.Proxy):
            self.calls.append((self.path_of_module(m), result.node))
        return result


def list_cuts(module: nn.Module, example_nchw: Tensor) -> list[CutSite]:
    """Return the cuts of `module` at one feature map or one sequence of tokens, in the order of execution.

    Args:
        module: The network; it is put into evaluation mode for the probe and restored.
        example_nchw: One input; only its shape matters.

    Raises:
        PlanError: If `torch.fx` cannot trace the module, or it cannot run on the example.
    """
    graph, sites = _sites(module)
    shapes = _shapes(module, graph, example_nchw)
    found = []
    for node, names in sites.items():
        tensor = _tensor(shapes.get(node, ()), *example_nchw.shape[2:])
        if tensor is not None:
            ordered = sorted(names, key=lambda name: (name.count("."), len(name)))
            shape_chw, class_tokens = tensor
            found.append(
                CutSite(
                    name=ordered[0],
                    shape_chw=shape_chw,
                    aliases=tuple(ordered[1:]),
                    class_tokens=class_tokens,
                )
            )
    return found


def split_at(module: nn.Module, cut: str) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Return (head, tail) of `module` at `cut`; tail(head(x)) equals module(x). Both share its parameters.

    Raises:
        PlanError: If `cut` is not a single tensor through which everything passes; lists the cuts that are.
    """
    head, tail = split_in_order(module, (cut,))
    return head, tail


def split_in_order(module: nn.Module, cuts: Sequence[str]) -> list[fx.GraphModule]:
    """Return the `len(cuts) + 1` segments of `module` between successive cuts; they share its parameters.

    Raises:
        PlanError: If one of `cuts` does not fit, or they are not in the order of execution.
    """
    graph, sites = _sites(module)
    borders: list[fx.Node] = []
    for cut in cuts:
        site = next((node for node, names in sites.items() if cut in names), None)
        if site is None:
            names = [min(aliases, key=lambda name: name.count(".")) for aliases in sites.values()]
            raise no_such_cut(cut, names)
        borders.append(site)
    order = list(graph.nodes)
    if [order.index(site) for site in borders] != sorted({order.index(site) for site in borders}):
        raise PlanError(f"cuts {list(cuts)} are not in the order in which the network runs")
    starts, ends = [None, *borders], [*borders, None]
    return [_segment(module, graph, start, end) for start, end in zip(starts, ends, strict=True)]


def later_levels(sites: Sequence[CutSite], cut: str) -> tuple[str, ...]:
    """Return the last site of every resolution behind `cut`: where a student is compared once more.

    Raises:
        PlanError: If `cut` is none of `sites`.
    """
    position = next((i for i, site in enumerate(sites) if cut in (site.name, *site.aliases)), None)
    if position is None:
        raise no_such_cut(cut, [site.name for site in sites])
    last = {site.shape_chw: site.name for site in sites[position + 1 :]}
    return tuple(site.name for site in sites[position + 1 :] if last[site.shape_chw] == site.name)


def no_such_cut(cut: str, fitting: Sequence[str]) -> PlanError:
    """Return the error for a `cut` that does not fit, with those that do."""
    return PlanError(f"cut {cut!r} does not fit this network; cuts that fit: {', '.join(fitting) or 'none'}")


def _tensor(
    shape: tuple[int, ...], height: int, width: int
) -> tuple[tuple[int, int, int], int | None] | None:
    """Return (shape_chw, class tokens) of a feature map or of tokens, or None if `shape` is neither's."""
    if len(shape) == 4 and min(shape[1:]) > 0:
        return (shape[1], shape[2], shape[3]), None
    if len(shape) == 3:
        _, tokens, length = shape
        # Patches are squares: as many fit beside as below each other as the image's sides say.
        for class_tokens in range(_MAX_CLASS_TOKENS + 1):
            for rows in range(1, tokens - class_tokens + 1):
                columns = (tokens - class_tokens) // rows
                if rows * columns == tokens - class_tokens and rows * width == columns * height:
                    return (length, rows, columns), class_tokens
    return None


def _sites(module: nn.Module) -> tuple[fx.Graph, dict[fx.Node, list[str]]]:
    tracer = _NamingTracer()
    try:
        graph = tracer.trace(module)
    except Exception as error:  # a user's module: whatever tracing raises is about that module
        reason = " ".join(str(error).split())[:200]
        raise PlanError(
            f"{type(module).__name__} cannot be traced by torch.fx ({reason}); "
            "make its forward free of data-dependent control flow"
        ) from None
    # A module that runs twice names no single tensor.
    paths = [path for path, _ in tracer.calls]
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise PlanError(
            f"{type(module).__name__} takes {len(inputs)} inputs; a network to cut takes one image"
        )
    passes = _bottlenecks(graph)
    sites: dict[fx.Node, list[str]] = {}
    for path, node in tracer.calls:
        if paths.count(path) == 1 and node in passes and path:
            sites.setdefault(node, []).append(path)
    return graph, dict(sorted(sites.items(), key=lambda item: passes.index(item[0])))


def _bottlenecks(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes through which every path from input to output runs, in order.

    A node is one if, once it ran, nothing that ran before it is read again.
    """
    live = _reaching_output(graph)
    order = [node for node in graph.nodes if node in live and node.op not in ("get_attr", "output")]
    position = {node: index for index, node in enumerate(order)}
    found, reach = [], 0
    for index, node in enumerate(order):
        if reach <= index and node.op != "placeholder":
            users = [user for user in node.users if user in live]
            if not any(user.op == "output" for user in users):
                found.append(node)
        # The furthest point at which this node's value is still read.
        reach = max([reach, *(position.get(user, len(order)) for user in node.users if user in live)])
    return found


def _reaching_output(graph: fx.Graph) -> set[fx.Node]:
    output = next(node for node in graph.nodes if node.op == "output")
    live, pending = {output}, [output]
    while pending:
        for node in pending.pop().all_input_nodes:
            if node not in live:
                live.add(node)
                pending.append(node)
    return live


def _shapes(module: nn.Module, graph: fx.Graph, example_nchw: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    shapes: dict[fx.Node, tuple[int, ...]] = {}

    class Probe(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                shapes[n] = tuple(result.shape)
            return result

    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            Probe(fx.GraphModule(module, graph)).run(example_nchw)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PlanError(
            f"{type(module).__name__} does not run on an input of shape {tuple(example_nchw.shape)}: {reason}"
        ) from None
    finally:
        module.train(was_training)
    return shapes


def _segment(
    module: nn.Module, graph: fx.Graph, start: fx.Node | None, end: fx.Node | None
) -> fx.GraphModule:
    part = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    inside = start is None
    live = _reaching_output(graph)
    for node in graph.nodes:
        if node.op == "get_attr" or (inside and node in live):
            copies[node] = part.node_copy(node, lambda source: copies[source])
        if start is not None and node is start:
            copies[start] = part.placeholder("features_nchw")
            inside = True
        if end is not None and node is end:
            part.output(copies[end])
            break
    return _as_module(module, part)


def _as_module(root: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    part = fx.GraphModule(root, graph)
    part.graph.eliminate_dead_code()
    part.graph.lint()
    part.delete_all_unused_submodules()
    part.recompile()
    part.train(root.training)
    return part
