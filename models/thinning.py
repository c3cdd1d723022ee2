"""Propose a thinned encoder: which layers of a network up to a cut are kept, which of them by which width.

Layers that change the shape stay; blocks with a shortcut around them are left out, evenly within each stage,
until the full width costs the share of the uncut layers that is asked for. On large images a stem of stride 4
takes the place of the layers at high resolution: they are most of the time and hardly any of the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.models.cutting import CutSite
from isthmus.models.families.pruned_structure import LayerSpec, PrunedStructure
from isthmus.models.teacher_layers import TeacherLayer, layers_until
from isthmus.runtime.errors import PlanError

# A value written and read again takes as long as this many multiplications: measured with ONNX Runtime on a
# CPU with AVX-512, where MobileNetV2's blocks take 4 ns per thousand of the latter and 0.3 ns per value.
_VALUE_COST = 64
_LARGE_SIDE, _STEM_STRIDE, _STEM_CHANNELS = 64, 8, 32
# Below this a vector of a processor is not full: fewer channels save nothing.
_LANES = 16
_HIDDEN_SHARES = (1.0, 0.75, 0.5, 0.34)


def thinned(
    teacher: nn.Module,
    sites: Sequence[CutSite],
    cut: str,
    shape_hwc: tuple[int, int, int],
    widths: Sequence[float],
    head_share: float,
) -> PrunedStructure:
    """Return the layers of `teacher` through `cut`, thinned until they cost `head_share` of what they did.

    Args:
        teacher: The network.
        sites: What `list_cuts` says of it.
        cut: Module path.
        shape_hwc: Height, width and channels of the images.
        widths: Compute fractions of the encoder, ascending.
        head_share: Of the cost of the uncut layers; where not even one block per change of shape fits into
            it, they are kept all the same.

    Raises:
        PlanError: If the layers are of a kind that a thinned encoder does not have.
    """
    layers = _known_layers(teacher, sites, cut)
    sizes = _planes(layers, shape_hwc)
    budget = head_share * _uncut_cost(teacher, layers, shape_hwc)
    stem: list[LayerSpec] = []
    if max(shape_hwc[:2]) > _LARGE_SIDE:
        stem, layers = _with_stem(layers, sizes, shape_hwc)
    unknown = next((layer for layer in layers if layer.spec is None), None)
    if unknown is not None:
        raise PlanError(
            f"encoder auto: layer '{unknown.name}' is of no kind that can be thinned; give --encoder stages, "
            "or another --cut"
        )
    hidden, kept = _HIDDEN_SHARES[-1], []
    for hidden in _HIDDEN_SHARES:
        kept = _thin(layers, stem, shape_hwc, budget, hidden)
        enough = sum(layer.keeps_shape for layer in kept) * 2 >= sum(layer.keeps_shape for layer in layers)
        if enough or not any(layer.spec.kind == "inverted" for layer in kept if layer.spec):
            break
    specs = stem + [_narrowed(layer, hidden) for layer in kept]
    optional = [place + len(stem) for place, layer in enumerate(kept) if layer.keeps_shape]
    return PrunedStructure(
        layers=tuple(str(spec) for spec in specs),
        skipped=_skipped(specs, optional, widths),
        fractions=_fractions(specs, widths),
        private=True,
    )


def _known_layers(teacher: nn.Module, sites: Sequence[CutSite], cut: str) -> list[TeacherLayer]:
    place = next((at for at, site in enumerate(sites) if cut in (site.name, *site.aliases)), None)
    names = {cut} if place is None else {sites[place].name, *sites[place].aliases}
    layers = layers_until(teacher, names)
    if not layers:
        raise PlanError(f"encoder auto: no layer ends at {cut!r}; give the --cut of a whole block")
    passed = {name for site in sites for name in (site.name, *site.aliases)}
    norms = {id(module): name for name, module in teacher.named_modules()}
    # A block of an unknown kind shows its parts; they are none unless everything passes through them.
    return [
        layer
        if layer.name in passed or norms[id(layer.module)] in passed
        else dataclasses.replace(layer, spec=None)
        for layer in layers
    ]


def _planes(layers: Sequence[TeacherLayer], shape_hwc: tuple[int, int, int]) -> list[int]:
    """Return by how much each layer's output is smaller than the image, as a stride."""
    strides, stride = [], 1
    for layer in layers:
        convs = [conv for conv, _ in layer.pairs]
        own = (
            layer.spec.stride
            if layer.spec is not None
            else max((conv.stride[0] for conv in convs), default=1)
        )
        if not convs and layer.spec is None:
            found = getattr(layer.module, "stride", 1)
            own = found[0] if isinstance(found, tuple) else int(found)
        stride *= own
        strides.append(min(stride, max(shape_hwc[:2])))
    return strides


def _with_stem(
    layers: list[TeacherLayer], strides: list[int], shape_hwc: tuple[int, int, int]
) -> tuple[list[LayerSpec], list[TeacherLayer]]:
    """Return a stem, and the layers behind the first one of stride 8; without one, no stem and all layers."""
    first = next((at for at, stride in enumerate(strides) if stride >= _STEM_STRIDE), None)
    if first is None or first == len(layers) - 1 or layers[first].spec is None:
        return [], layers
    goal = layers[first].spec
    assert goal is not None
    word = {"inverted": "linear", "conv": goal.word or "relu"}.get(goal.kind, "relu")
    between = max(goal.channels, min(2 * goal.channels, 2 * _STEM_CHANNELS))
    return [
        LayerSpec(kind="conv", kernel=6, stride=4, channels=_STEM_CHANNELS, word="relu"),
        LayerSpec(kind="conv", kernel=3, stride=2, channels=between, word="relu"),
        LayerSpec(kind="conv", kernel=1, stride=1, channels=goal.channels, word=word),
    ], layers[first + 1 :]


def _thin(
    layers: Sequence[TeacherLayer],
    stem: Sequence[LayerSpec],
    shape_hwc: tuple[int, int, int],
    budget: float,
    hidden: float,
) -> list[TeacherLayer]:
    """Return the layers, less blocks that keep the shape, until they cost no more than the budget."""
    stages: list[list[TeacherLayer]] = []
    for layer in layers:
        if not layer.keeps_shape or not stages:
            stages.append([])
        stages[-1].append(layer)
    blocks = [[layer for layer in stage if layer.keeps_shape] for stage in stages]
    left = [len(own) for own in blocks]
    while True:
        kept: list[TeacherLayer] = []
        for stage, own, count in zip(stages, blocks, left, strict=True):
            chosen = {own[at * len(own) // count].name for at in range(count)} if count else set()
            kept += [layer for layer in stage if not layer.keeps_shape or layer.name in chosen]
        specs = [*stem, *(_narrowed(layer, hidden) for layer in kept)]
        if _cost(specs, shape_hwc) <= budget or not any(left):
            return kept
        # The last stages are cheap and see most; of equal shares the earlier stage loses a block.
        shares = [count / len(own) if own else 0.0 for count, own in zip(left, blocks, strict=True)]
        left[shares.index(max(shares))] -= 1


def _narrowed(layer: TeacherLayer, hidden: float) -> LayerSpec:
    spec = layer.spec
    assert spec is not None
    if spec.kind != "inverted" or hidden == 1.0:
        return spec
    return dataclasses.replace(spec, hidden=max(8, 8 * round(hidden * spec.hidden / 8)))


def _skipped(
    specs: Sequence[LayerSpec], optional: Sequence[int], widths: Sequence[float]
) -> tuple[tuple[int, ...], ...]:
    """Let each width leave out the last blocks of every stage, as many as its fraction says."""
    stages: list[list[int]] = []
    for at in optional:
        if stages and stages[-1][-1] == at - 1:
            stages[-1].append(at)
        else:
            stages.append([at])
    found = []
    for width in widths:
        kept = [round(len(stage) * width) for stage in stages]
        found.append(tuple(at for stage, count in zip(stages, kept, strict=True) for at in stage[count:]))
    return tuple(found)


def _fractions(specs: Sequence[LayerSpec], widths: Sequence[float]) -> tuple[float, ...]:
    """Keep the channels of networks so narrow that vectors would be empty; the narrowest width has half."""
    least = min(spec.channels for spec in specs if spec.channels)
    if least >= 2 * _LANES or len(widths) == 1:
        return ()
    narrow = tuple(max(width, min(1.0, _LANES / least)) for width in widths)
    return (max(0.5, widths[0]), *narrow[1:-1], 1.0)


def _cost(specs: Sequence[LayerSpec], shape_hwc: tuple[int, int, int]) -> float:
    height, width, channels = shape_hwc
    total = 0.0
    for spec in specs:
        before = height * width
        height, width = spec.plane(height), spec.plane(width)
        area, out = height * width, spec.channels or channels
        dense = spec.kernel**2
        if spec.kind == "conv":
            total += area * out * (dense * channels + _VALUE_COST)
        elif spec.kind == "residual":
            total += area * out * (9 * (channels + out) + 2 * _VALUE_COST)
        elif spec.kind == "inverted":
            total += before * spec.hidden * (channels + _VALUE_COST)
            total += area * (spec.hidden * (dense + out + _VALUE_COST) + out * _VALUE_COST)
        else:
            total += area * out * _VALUE_COST
        channels = out
    return total


@torch.no_grad()
def _uncut_cost(teacher: nn.Module, layers: Sequence[TeacherLayer], shape_hwc: tuple[int, int, int]) -> float:
    """Return what all convolutions of the layers cost, whatever blocks they stand in."""
    total = 0.0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output.numel() * (module.weight[0].numel() + _VALUE_COST)

    parts = [part for layer in layers for part in (layer.module, *(conv for conv, _ in layer.pairs))]
    convs = {id(part): part for own in parts for part in own.modules() if isinstance(part, nn.Conv2d)}
    handles = [conv.register_forward_hook(count) for conv in convs.values()]
    teacher.eval()(torch.zeros(1, shape_hwc[2], *shape_hwc[:2]))
    for handle in handles:
        handle.remove()
    return total
