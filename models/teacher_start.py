"""Start a thinned encoder as what it is thinned from: the uncut network's own weights, channels sorted.

The channels that a width or a thinner block keeps are always the leading ones. So they are sorted: those come
first whose values vary most and are weighed most by the layer that reads them. Channels that a shortcut
passes on keep one order in all the blocks that share it. Norms start with the mean and deviation that the
uncut network's have on real images, because a norm that was folded into a convolution tells neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from isthmus.models.families.layers import SlimBatchNorm2d, SlimConv2d, SlimDepthwise2d
from isthmus.models.families.pruned import PrunedEncoder
from isthmus.models.families.pruned_structure import LayerSpec
from isthmus.models.families.slim_blocks import SlimConvNorm, SlimInverted, SlimResidual, activated
from isthmus.models.split_network import SplitNetwork
from isthmus.models.teacher_layers import Pair, TeacherLayer, layer_named
from isthmus.runtime.errors import PlanError

_BATCH = 64
_SlimPair = tuple[SlimConv2d | SlimDepthwise2d, SlimBatchNorm2d]


@dataclass(slots=True)
class _Moments:
    """Mean and variance per channel of what one module gives, over batches of one size."""

    batches: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(1))
    square: Tensor = field(default_factory=lambda: torch.zeros(1))

    def add(self, x_nchw: Tensor) -> None:
        self.batches += 1
        variance, mean = torch.var_mean(x_nchw.detach().float(), dim=(0, 2, 3), correction=0)
        mean = mean.double().cpu()
        square = variance.double().cpu() + mean.square()
        self.mean = self.mean + (mean - self.mean) / self.batches
        self.square = self.square + (square - self.square) / self.batches

    @property
    def deviation(self) -> Tensor:
        return (self.square - self.mean.square()).clamp_min(0.0).sqrt()


def start_from_teacher(network: SplitNetwork, pixels_nhwc: Tensor) -> list[str]:
    """Copy the layers that the encoder of `network` names; return the names of the tensors that were set.

    Args:
        network: With a thinned encoder, on its device.
        pixels_nhwc: Images uint8 by which channels are sorted; some hundreds will do.

    Raises:
        PlanError: If its bottleneck is of another kind, or names no layer that fits.
    """
    sources = _sources(network)
    encoder = cast("PrunedEncoder", network.encoder)
    moments = _measure(network, sources, pixels_nhwc)
    orders = stream_orders(encoder, sources, moments)
    names: list[str] = []
    with torch.no_grad():
        for at, source in sources.items():
            layer = encoder.layers[at]
            before, after = orders[at]
            for pair, mine, rows, columns in _matched(source, layer, moments, before, after):
                _copy(pair, mine, rows, columns, moments)
            names += [f"encoder.layers.{at}.{name}" for name, _ in layer.named_parameters()]
    return names


def orders_of(network: SplitNetwork, pixels_nhwc: Tensor) -> Mapping[int, tuple[Tensor, Tensor]]:
    """Return for each copied layer, by its index, which channels its input and its output have, in order."""
    sources = _sources(network)
    moments = _measure(network, sources, pixels_nhwc)
    return stream_orders(cast("PrunedEncoder", network.encoder), sources, moments)


def _sources(network: SplitNetwork) -> dict[int, TeacherLayer]:
    encoder = network.encoder
    if not isinstance(encoder, PrunedEncoder):
        raise PlanError(
            f"start teacher: bottleneck {network.config.family!r} has no layers of the network's own; "
            "give --encoder auto"
        )
    found: dict[int, TeacherLayer] = {}
    for at, spec in enumerate(encoder.specs):
        if spec.source is None or spec.kind == "pool":
            continue
        layer = layer_named(network.teacher, spec.source)
        if layer is None or layer.spec is None or not _fits(spec, layer.spec):
            known = "none" if layer is None else f"'{layer.spec}'"
            raise PlanError(f"layer '{spec}': the network's layer of that name is {known}; it does not fit")
        found[at] = layer
    if not found:
        raise PlanError("start teacher: no layer says 'from MODULE'; give --encoder auto")
    return found


def _fits(mine: LayerSpec, theirs: LayerSpec) -> bool:
    alike = ("kind", "kernel", "stride", "word")
    thinner = mine.channels <= theirs.channels and mine.hidden <= theirs.hidden
    return thinner and all(getattr(mine, name) == getattr(theirs, name) for name in alike)


@torch.no_grad()
def _measure(
    network: SplitNetwork, sources: Mapping[int, TeacherLayer], pixels_nhwc: Tensor
) -> dict[nn.Module, _Moments]:
    """Return the moments of what every norm and block of the sources gives, and of the blocks' inputs.

    Of the hidden layers, whose channels are sorted by what the next one reads, also after the activation.
    """
    moments: dict[Any, _Moments] = {}
    handles = []

    def watch(module: nn.Module, key: object, change: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        own = moments.setdefault(key, _Moments())
        handles.append(module.register_forward_hook(lambda _m, _i, output: own.add(change(output))))

    for source in sources.values():
        word = source.spec.word if source.spec is not None and source.spec.kind == "inverted" else "relu"
        for _, norm in (*source.pairs, *([source.shortcut] if source.shortcut else [])):
            watch(norm, norm)
            watch(norm, (norm, "active"), lambda x, word=word: activated(x.clone(), str(word)))  # type: ignore[misc]
        if source.module is not source.pairs[-1][1]:
            watch(source.module, source.module)
        entry = moments.setdefault((source.module, "input"), _Moments())
        first = source.pairs[0][0]
        handles.append(first.register_forward_pre_hook(lambda _m, inputs, entry=entry: entry.add(inputs[0])))
    device = next(network.parameters()).device
    for batch in torch.split(pixels_nhwc, _BATCH):
        network.teacher(network.normalise(batch.to(device)))
    for handle in handles:
        handle.remove()
    return moments


def stream_orders(
    encoder: PrunedEncoder, sources: Mapping[int, TeacherLayer], moments: Mapping[Any, _Moments]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return the orders of the channels between layers: (into, out of) each copied layer, by its index."""
    groups: list[list[int]] = []  # layers whose output is one stream
    for at in sorted(sources):
        if sources[at].keeps_shape and groups and groups[-1][-1] == _before(encoder, at):
            groups[-1].append(at)
        else:
            groups.append([at])
    orders: dict[int, tuple[Tensor, Tensor]] = {}
    for group in groups:
        first = sources[group[0]]
        previous = orders.get(_before(encoder, group[0]))
        entering = previous[1] if previous is not None else None
        score = torch.stack([_worth(sources[at], moments) for at in group]).mean(dim=0)
        leaving = torch.argsort(score, descending=True, stable=True)
        if entering is None:
            entering = leaving if first.keeps_shape else _entry(first, moments)
        if first.spec is not None and first.spec.kind == "residual" and first.shortcut is None:
            leaving = leaving if first.keeps_shape else _behind_padding(entering, leaving, first.in_channels)
        for at in group:
            orders[at] = (entering, leaving)
            entering = leaving
    return orders


def _before(encoder: PrunedEncoder, at: int) -> int:
    """Return the index of the layer whose channels enter layer `at`: pools pass them on."""
    at -= 1
    while at > 0 and encoder.specs[at].kind == "pool":
        at -= 1
    return at


def _entry(layer: TeacherLayer, moments: Mapping[Any, _Moments]) -> Tensor:
    """Return the order of the channels that enter the first copied layer; colours stay as they are."""
    first = layer.pairs[0][0]
    if first.in_channels <= 4:
        return torch.arange(first.in_channels)
    worth = moments[(layer.module, "input")].deviation * _reads(first)
    return torch.argsort(worth, descending=True, stable=True)


def _behind_padding(entering: Tensor, leaving: Tensor, in_channels: int) -> Tensor:
    """Let the channels that a padded shortcut passes on come first, in the order in which they enter."""
    half = (len(leaving) - in_channels) // 2
    passed = entering + half
    rest = leaving[~torch.isin(leaving, torch.arange(half, half + in_channels))]
    return torch.cat([passed, rest])


def _worth(layer: TeacherLayer, moments: Mapping[Any, _Moments]) -> Tensor:
    """Return how much each output channel varies, as a share of the mean."""
    end = layer.module if layer.module in moments else (layer.pairs[-1][1], "active")
    deviation = moments[end].deviation
    return deviation / deviation.mean().clamp_min(1e-12)


def _reads(conv: nn.Conv2d) -> Tensor:
    """Return how much a convolution weighs each channel of its input."""
    return conv.weight.detach().double().square().sum(dim=(0, 2, 3)).sqrt().cpu()


def _matched(
    source: TeacherLayer,
    layer: nn.Module,
    moments: Mapping[Any, _Moments],
    before: Tensor,
    after: Tensor,
) -> list[tuple[Pair, _SlimPair, Tensor, Tensor | None]]:
    """Return the network's pairs, the encoder's, and which rows and columns of the weights are taken."""
    if isinstance(layer, SlimConvNorm):
        return [(source.pairs[0], (layer.conv, layer.norm), after, before)]
    hidden_norm = source.pairs[-2][1]
    reads = _reads(source.pairs[-1][0])
    worth = moments[(hidden_norm, "active")].deviation * reads
    hidden = torch.argsort(worth, descending=True, stable=True)
    if isinstance(layer, SlimInverted):
        own: list[_SlimPair] = [
            (layer.conv1, layer.norm1), (layer.conv2, layer.norm2), (layer.conv3, layer.norm3)
        ]  # fmt: skip
        places: list[tuple[Tensor, Tensor | None]] = [(hidden, before), (hidden, None), (after, hidden)]
    else:
        assert isinstance(layer, SlimResidual)
        own = [(layer.conv1, layer.norm1), (layer.conv2, layer.norm2)]
        places = [(hidden, before), (after, hidden)]
    found = [(pair, mine, *place) for pair, mine, place in zip(source.pairs, own, places, strict=True)]
    if isinstance(layer, SlimResidual) and layer.shortcut is not None and source.shortcut is not None:
        found.append((source.shortcut, (layer.shortcut.conv, layer.shortcut.norm), after, before))
    return found


def _copy(
    pair: Pair, mine: _SlimPair, rows: Tensor, columns: Tensor | None, moments: Mapping[Any, _Moments]
) -> None:
    (conv, norm), (own, own_norm) = pair, mine
    weight = conv.weight.cpu()[rows[: len(own.weight)]]
    if columns is not None:
        weight = weight[:, columns[: own.weight.shape[1]]]
    own.weight.copy_(weight)
    found = moments[norm]
    sign = torch.where(norm.weight.detach().cpu() < 0, -1.0, 1.0)
    count = own_norm.weight.shape[-1]
    own_norm.weight.copy_((found.deviation * sign)[rows[:count]].float())
    own_norm.bias.copy_(found.mean[rows[:count]].float())
