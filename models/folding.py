"""Frozen segments of a network as they run fastest: BatchNorm folded into the convolutions before it.

What is folded computes the same function, forward and backward, with fewer passes over the features. Only for
training: what is saved and exported keeps the network's own layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(segments: Iterable[nn.Module], dtype: torch.dtype) -> list[nn.Module]:
    """Return copies of traced `segments` in evaluation mode, folded, frozen, with weights of `dtype`."""
    return [_folded(segment).eval().requires_grad_(False).to(dtype) for segment in segments]


def _folded(segment: nn.Module) -> nn.Module:
    own = copy.deepcopy(segment).eval()
    if not isinstance(own, fx.GraphModule):
        return own
    modules, calls = dict(own.named_modules()), _calls(own)
    for node in list(own.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or not norm.track_running_stats:
            continue
        before = node.args[0]
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        # A convolution that something else reads too, or that runs twice, must stay as it is.
        shared = len(before.users) > 1 or calls.get(str(before.target), 0) > 1
        if type(conv) is not nn.Conv2d or shared or calls[str(node.target)] > 1:
            continue
        own.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
        node.replace_all_uses_with(before)
        own.graph.erase_node(node)
    for name, module in list(own.named_modules()):
        if isinstance(module, nn.Conv2d) and _is_strided_depthwise(module):
            own.set_submodule(name, _SlicedConv2d(module))
    own.recompile()
    own.delete_all_unused_submodules()
    return own


class _SlicedConv2d(nn.Module):
    """A strided depthwise convolution as one of stride 1, of which every so many values are kept.

    The same values; but the input's gradient in bfloat16 on a CPU takes a seventieth of the time.
    """

    def __init__(self, strided: nn.Conv2d) -> None:
        super().__init__()
        self.down, self.right = strided.stride
        self.conv = copy.deepcopy(strided)
        self.conv.stride = (1, 1)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return what the strided convolution would."""
        full: Tensor = self.conv(x_nchw)
        return full[:, :, :: self.down, :: self.right]


def _is_strided_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels > 1 and max(conv.stride) > 1


def _calls(module: fx.GraphModule) -> dict[str, int]:
    """Return how often each submodule is called."""
    counts: dict[str, int] = {}
    for node in module.graph.nodes:
        if node.op == "call_module":
            counts[str(node.target)] = counts.get(str(node.target), 0) + 1
    return counts
