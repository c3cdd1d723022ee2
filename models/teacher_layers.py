"""Which layers of a network a thinned encoder can be made of: its blocks, recognised by their parts.

Blocks are known by what they hold, not by their class, so that a user's own ResNet or MobileNetV2 is too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from torch import nn

from isthmus.models.families.pruned_structure import LayerSpec

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherLayer:
    """A block of the network.

    Attributes:
        name: Module path.
        module: The block; of a convolution and a norm that stand beside each other, the norm.
        spec: The layer that is the same; None for a block of another kind.
        pairs: Its convolutions and their norms, in their order.
        shortcut: The convolution and norm around a residual block, where there are any.
    """

    name: str
    module: nn.Module
    spec: LayerSpec | None
    pairs: tuple[Pair, ...] = ()
    shortcut: Pair | None = None

    @property
    def in_channels(self) -> int:
        """Channels of its input; 0 for a pool."""
        return self.pairs[0][0].in_channels if self.pairs else 0

    @property
    def keeps_shape(self) -> bool:
        """Whether a shortcut leads its very input to its output, so that the block may be left out."""
        spec = self.spec
        if spec is None or spec.kind not in ("residual", "inverted") or self.shortcut is not None:
            return False
        return spec.stride == 1 and spec.channels == self.in_channels


def layers_until(network: nn.Module, ends: Collection[str]) -> list[TeacherLayer]:
    """Return the blocks of `network` in the order of its modules, the last of them one of `ends`.

    The list is empty if no block ends there.
    """
    found: list[TeacherLayer] = []
    for layer in _walk(network, ""):
        found.append(layer)
        last = layer.name if layer.pairs and layer.module is layer.pairs[-1][1] else ""
        if layer.name in ends or (last and _beside(network, layer) & set(ends)):
            return found
    return []


def layer_named(network: nn.Module, name: str) -> TeacherLayer | None:
    """Return the block called `name`, if it is one of a known kind."""
    return next((layer for layer in _walk(network, "") if layer.name == name and layer.spec), None)


def _beside(network: nn.Module, layer: TeacherLayer) -> set[str]:
    """Return the names of the norm of a bare convolution and of the activation behind it."""
    parent = layer.name.rpartition(".")[0]
    siblings = [name for name, _ in network.get_submodule(parent).named_children()]
    place = siblings.index(layer.name.rpartition(".")[2])
    return {f"{parent}.{name}".lstrip(".") for name in siblings[place : place + 3]}


def _walk(module: nn.Module, prefix: str) -> Iterator[TeacherLayer]:
    children = list(module.named_children())
    used = False
    for place, (name, child) in enumerate(children):
        path = f"{prefix}{name}"
        following = children[place + 1][1] if place + 1 < len(children) else None
        if used:  # the norm of the convolution before it
            used = False
        elif (layer := _recognised(path, child)) is not None:
            yield layer
        elif isinstance(child, nn.Conv2d):
            used = isinstance(following, nn.BatchNorm2d)
            yield _bare(path, child, following)
        elif list(child.children()):
            yield from _walk(child, f"{path}.")
        elif list(child.parameters()) or _changes_plane(child):
            yield TeacherLayer(name=path, module=child, spec=None)


def _recognised(path: str, module: nn.Module) -> TeacherLayer | None:
    if isinstance(module, nn.MaxPool2d):
        kernel, stride = _number(module.kernel_size), _number(module.stride)
        spec = LayerSpec(kind="pool", kernel=kernel, stride=stride, source=path)
        same = kernel > 0 and stride > 0 and _number(module.padding) == spec.padding
        return TeacherLayer(name=path, module=module, spec=spec if same else None)
    return _residual(path, module) or _sequence(path, module)


def _residual(path: str, module: nn.Module) -> TeacherLayer | None:
    parts = [getattr(module, name, None) for name in ("conv1", "bn1", "conv2", "bn2")]
    first, norm1, second, norm2 = parts
    if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.Conv2d) or hasattr(module, "conv3"):
        return None
    if not isinstance(norm1, nn.BatchNorm2d) or not isinstance(norm2, nn.BatchNorm2d):
        return None
    stride = _number(first.stride)
    dense = all(_number(conv.kernel_size) == 3 and conv.groups == 1 for conv in (first, second))
    if not dense or second.stride != (1, 1) or first.out_channels != second.out_channels:
        return TeacherLayer(name=path, module=module, spec=None)
    around = _pairs(getattr(module, "downsample", None)) or _pairs(getattr(module, "shortcut", None))
    spec = LayerSpec(
        kind="residual",
        kernel=3,
        stride=stride,
        channels=second.out_channels,
        word="projected" if around else None,
        source=path,
    )
    pairs = ((first, norm1), (second, norm2))
    return TeacherLayer(
        name=path, module=module, spec=spec, pairs=pairs, shortcut=around[0] if around else None
    )


def _sequence(path: str, module: nn.Module) -> TeacherLayer | None:
    """Return an inverted residual block, or a convolution with norm and activation in one module."""
    pairs = _pairs(module)
    own = sum(value.numel() for conv, norm in pairs for part in (conv, norm) for value in part.parameters())
    if not pairs or own != sum(value.numel() for value in module.parameters()):
        return None
    words = {type(part) for part in module.modules()}
    word = "relu6" if nn.ReLU6 in words else "relu" if nn.ReLU in words else "linear"
    kernels = [_number(conv.kernel_size) for conv, _ in pairs]
    foreign = words & {nn.Hardswish, nn.SiLU, nn.GELU, nn.PReLU, nn.LeakyReLU, nn.Sigmoid}
    if foreign:
        return None
    if len(pairs) == 1 and isinstance(module, nn.Sequential) and pairs[0][0].groups == 1:
        conv = pairs[0][0]
        if len(list(module.children())) > 3 or not isinstance(module[0], nn.Conv2d):
            return None
        return TeacherLayer(name=path, module=module, spec=_conv_spec(path, conv, word), pairs=tuple(pairs))
    if len(pairs) == 3 and kernels[0] == kernels[2] == 1 and word != "linear":
        depthwise = pairs[1][0]
        if depthwise.groups == depthwise.in_channels > 1 and pairs[0][0].groups == pairs[2][0].groups == 1:
            spec = LayerSpec(
                kind="inverted",
                kernel=kernels[1],
                stride=_number(depthwise.stride),
                channels=pairs[2][0].out_channels,
                hidden=depthwise.in_channels,
                word=word,
                source=path,
            )
            return TeacherLayer(name=path, module=module, spec=spec, pairs=tuple(pairs))
    return None


def _bare(path: str, conv: nn.Conv2d, following: nn.Module | None) -> TeacherLayer:
    if not isinstance(following, nn.BatchNorm2d) or conv.groups != 1:
        return TeacherLayer(name=path, module=conv, spec=None)
    # What stands beside a norm in a residual network is rectified, often by a function.
    spec = _conv_spec(path, conv, "relu")
    return TeacherLayer(name=path, module=following, spec=spec, pairs=((conv, following),))


def _conv_spec(path: str, conv: nn.Conv2d, word: str) -> LayerSpec:
    return LayerSpec(
        kind="conv",
        kernel=_number(conv.kernel_size),
        stride=_number(conv.stride),
        channels=conv.out_channels,
        word=word,
        source=path,
    )


def _pairs(module: object) -> list[Pair]:
    """Return the convolutions in `module` that a norm follows, with it."""
    if not isinstance(module, nn.Module):
        return []
    parts = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.BatchNorm2d)]
    pairs = list(zip(parts[::2], parts[1::2], strict=False))
    known = [(a, b) for a, b in pairs if isinstance(a, nn.Conv2d) and isinstance(b, nn.BatchNorm2d)]
    return known if len(known) * 2 == len(parts) else []


def _changes_plane(module: nn.Module) -> bool:
    return "Pool" in type(module).__name__ or isinstance(module, nn.Flatten)


def _number(value: object) -> int:
    """Return a size that is the same in both directions, 0 for any other."""
    if isinstance(value, tuple):
        return int(value[0]) if len(set(value)) == 1 else 0
    return int(value) if isinstance(value, int) else 0
