"""Vision transformers: ViT-B/16 (Dosovitskiy et al. 2021) and DeiT-Tiny (Touvron et al. 2021).

The two are one architecture under two sets of parameter names: torchvision's for ViT, timm's for DeiT. Image
sizes are fixed when the network is built: positions have learned embeddings.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.runtime.errors import InputError

_PATCH, _MLP_RATIO = 16, 4
_norm = partial(nn.LayerNorm, eps=1e-6)


class VitAttention(nn.Module):
    """Self-attention whose joint projection is a bare parameter, as in torch's own module."""

    def __init__(self, width: int, heads: int) -> None:
        """Take the tokens' width and the number of heads."""
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x_ntw: Tensor) -> Tensor:
        """Return [n, tokens, width]."""
        qkv_ntw = F.linear(x_ntw, self.in_proj_weight, self.in_proj_bias)
        projected: Tensor = self.out_proj(_attend(qkv_ntw, self.heads, self.head_width))
        return projected


class VitLayer(nn.Module):
    """Attention and a two-layer network, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        """Take the tokens' width and the number of heads."""
        super().__init__()
        self.ln_1 = _norm(width)
        self.self_attention = VitAttention(width, heads)
        self.ln_2 = _norm(width)
        hidden = width * _MLP_RATIO
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, width), nn.Dropout(0.0)
        )

    def forward(self, x_ntw: Tensor) -> Tensor:
        """Return [n, tokens, width]."""
        x_ntw = x_ntw + self.self_attention(self.ln_1(x_ntw))
        output: Tensor = x_ntw + self.mlp(self.ln_2(x_ntw))
        return output


class VitEncoder(nn.Module):
    """Position embeddings, the layers and a last norm."""

    def __init__(self, tokens: int, width: int, depth: int, heads: int) -> None:
        """Take the number of tokens with the class token, their width, and the layers' number and heads."""
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width).normal_(std=0.02))
        layers = [(f"encoder_layer_{index}", VitLayer(width, heads)) for index in range(depth)]
        self.layers = nn.Sequential(OrderedDict(layers))
        self.ln = _norm(width)

    def forward(self, x_ntw: Tensor) -> Tensor:
        """Return [n, tokens, width]."""
        output: Tensor = self.ln(self.layers(x_ntw + self.pos_embedding))
        return output


class VisionTransformer(nn.Module):
    """ViT with torchvision's parameter names; the defaults are ViT-B/16."""

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        *,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Length of the logits.
            in_channels: Channels of the image.
            image_size: Height and width of the images, multiples of 16.
            width: Length of a token.
            depth: Number of layers.
            heads: Of the attention, a divisor of `width`.

        Raises:
            InputError: If a side is no multiple of 16.
        """
        super().__init__()
        tokens = _patches(image_size) + 1
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv_proj = nn.Conv2d(in_channels, width, _PATCH, _PATCH)
        self.encoder = VitEncoder(tokens, width, depth, heads)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, num_classes)))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return logits [n, classes] of normalised images."""
        x_ntw = self.encoder(_with_class(self.conv_proj(x_nchw), self.class_token))
        logits: Tensor = self.heads(x_ntw[:, 0])
        return logits


class DeitAttention(nn.Module):
    """Self-attention with one linear layer `qkv`."""

    def __init__(self, width: int, heads: int) -> None:
        """Take the tokens' width and the number of heads."""
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_ntw: Tensor) -> Tensor:
        """Return [n, tokens, width]."""
        projected: Tensor = self.proj(_attend(self.qkv(x_ntw), self.heads, self.head_width))
        return projected


class DeitBlock(nn.Module):
    """Attention and a two-layer network, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        """Take the tokens' width and the number of heads."""
        super().__init__()
        hidden = width * _MLP_RATIO
        self.norm1 = _norm(width)
        self.attn = DeitAttention(width, heads)
        self.norm2 = _norm(width)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(width, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, width))
        )

    def forward(self, x_ntw: Tensor) -> Tensor:
        """Return [n, tokens, width]."""
        x_ntw = x_ntw + self.attn(self.norm1(x_ntw))
        output: Tensor = x_ntw + self.mlp(self.norm2(x_ntw))
        return output


class Deit(nn.Module):
    """DeiT without the distillation token, with timm's parameter names; the defaults are DeiT-Tiny."""

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        *,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
    ) -> None:
        """Build the network; the arguments are those of `VisionTransformer`.

        Raises:
            InputError: If a side is no multiple of 16.
        """
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.pos_embed = nn.Parameter(torch.empty(1, _patches(image_size) + 1, width).normal_(std=0.02))
        projection = nn.Conv2d(in_channels, width, _PATCH, _PATCH)
        self.patch_embed = nn.Sequential(OrderedDict(proj=projection))
        self.blocks = nn.Sequential(*(DeitBlock(width, heads) for _ in range(depth)))
        self.norm = _norm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return logits [n, classes] of normalised images."""
        x_ntw = _with_class(self.patch_embed(x_nchw), self.cls_token) + self.pos_embed
        logits: Tensor = self.head(self.norm(self.blocks(x_ntw))[:, 0])
        return logits


def _patches(image_size: tuple[int, int]) -> int:
    height, width = image_size
    if min(image_size) < _PATCH or height % _PATCH or width % _PATCH:
        raise InputError(
            f"images of {height}×{width}: a vision transformer needs both sides to be multiples of {_PATCH}"
        )
    return (height // _PATCH) * (width // _PATCH)


def _with_class(patches_nwhw: Tensor, class_11w: Tensor) -> Tensor:
    """Return the patches as tokens behind the class token, [n, 1 + patches, width]."""
    tokens = patches_nwhw.flatten(2).transpose(1, 2)
    return torch.cat([class_11w.expand(tokens.shape[0], -1, -1), tokens], 1)


def _attend(qkv_ntw: Tensor, heads: int, head_width: int) -> Tensor:
    """Return softmax(q·kᵀ/√d)·v of queries, keys and values that stand side by side, [n, tokens, width]."""
    split = torch.unflatten(qkv_ntw, -1, (3, heads, head_width))
    q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
    weights = (q @ k.transpose(-2, -1) * head_width**-0.5).softmax(-1)
    joined: Tensor = (weights @ v).transpose(1, 2).flatten(2)
    return joined
