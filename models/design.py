"""Fit a bottleneck to a cut of a network: probe the cut, choose the latent's plane, write the config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isthmus.models.backbones import MODELS
from isthmus.models.backbones.catalogue import GREY_MEAN, GREY_STD, IMAGENET_MEAN, IMAGENET_STD
from isthmus.models.bottleneck import plane_doublings
from isthmus.models.config import SplitConfig
from isthmus.models.cutting import CutSite, later_levels, list_cuts, no_such_cut, split_at
from isthmus.models.split_network import tensor_digest
from isthmus.runtime.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class BottleneckSize:
    """How large a bottleneck is.

    Attributes:
        channels: Latent channels.
        channel_counts: Prefixes offered as operating points; None for an eighth, a quarter, a half and all.
        encoder: (channels at width 1, residual blocks) per stride-2 stage; their number sets the plane.
        decoder_channels, decoder_blocks: Of the server's side.
        exit_channels: Of the early exit, 0 for none.
        widths: Compute fractions of the encoder.
    """

    channels: int = 16
    channel_counts: tuple[int, ...] | None = None
    encoder: tuple[tuple[int, int], ...] = ((48, 1), (96, 1))
    decoder_channels: int = 128
    decoder_blocks: int = 2
    exit_channels: int = 64
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)

    def counts(self) -> tuple[int, ...]:
        """Return the prefix lengths offered."""
        if self.channel_counts is not None:
            return self.channel_counts
        return tuple(sorted({max(1, self.channels // part) for part in (8, 4, 2, 1)}))


def normalisation(in_channels: int, ref: str = "") -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std): those that the weights of `ref` were published with, or else the usual ones."""
    if ref in MODELS and MODELS[ref].shape_hwc[2] == in_channels:
        return MODELS[ref].mean, MODELS[ref].std
    return (IMAGENET_MEAN, IMAGENET_STD) if in_channels == 3 else (GREY_MEAN, GREY_STD)


def design(
    ref: str,
    teacher: nn.Module,
    *,
    cut: str,
    shape_hwc: tuple[int, int, int],
    labels: Sequence[str],
    size: BottleneckSize | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    tail_tuned: bool = False,
) -> SplitConfig:
    """Return the config of a bottleneck of `size` at `cut` of `teacher`.

    Args:
        ref: The teacher's reference.
        teacher: The network to cut, weights loaded.
        cut: Module path.
        shape_hwc: Height, width and channels of the images.
        labels: Class names.
        size: None for the default size.
        mean: The teacher's normalisation, on pixels in [0, 1]; None for the usual one.
        std: Likewise.
        tail_tuned: Whether training will adapt the layers after the cut.

    Raises:
        PlanError: If the cut does not fit the network or the latent; lists the cuts that do.
    """
    size = size or BottleneckSize()
    height, width, in_channels = shape_hwc
    usual_mean, usual_std = normalisation(in_channels, ref)
    example = torch.zeros(1, in_channels, height, width)
    sites = list_cuts(teacher, example)
    site = next((site for site in sites if cut in (site.name, *site.aliases)), None)
    factor = 1 << len(size.encoder)
    if site is None:
        fitting = [other.name for other in sites if _fits(other, height // factor, width // factor)]
        raise no_such_cut(cut, fitting)
    config = SplitConfig(
        model=ref,
        cut=cut,
        cut_shape_chw=site.shape_chw,
        labels=tuple(labels),
        input_height=height,
        input_width=width,
        input_channels=in_channels,
        mean=mean or usual_mean,
        std=std or usual_std,
        channels=size.channels,
        channel_counts=size.counts(),
        latent_height=height // factor,
        latent_width=width // factor,
        encoder_stages=size.encoder,
        decoder_channels=size.decoder_channels,
        decoder_blocks=size.decoder_blocks,
        exit_channels=size.exit_channels,
        widths=size.widths,
        tail_tuned=tail_tuned,
        non_negative=_non_negative(teacher, cut, example),
        later_levels=later_levels(sites, cut),
        teacher_digest=tensor_digest(teacher),
    )
    plane_doublings(config)
    _check_classes(teacher, example, len(labels))
    return config


def _fits(site: CutSite, height: int, width: int) -> bool:
    """Say whether a decoder reaches the plane of `site` from a latent of `height` × `width`."""
    ratios = {site.shape_chw[1] / height, site.shape_chw[2] / width} if height and width else set()
    return len(ratios) == 1 and next(iter(ratios)) in {2.0**power for power in range(-6, 7)}


@torch.no_grad()
def _non_negative(teacher: nn.Module, cut: str, example_nchw: Tensor) -> bool:
    """Say whether the features at `cut` are never below zero, tried on noise: the output of a ReLU."""
    noise = torch.randn(4, *example_nchw.shape[1:], generator=torch.Generator().manual_seed(0))
    head, _ = split_at(teacher.eval(), cut)
    return float(head(2 * noise).min()) >= 0.0


@torch.no_grad()
def _check_classes(teacher: nn.Module, example_nchw: Tensor, classes: int) -> None:
    logits = teacher.eval()(example_nchw)
    if not isinstance(logits, Tensor) or logits.shape != (1, classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise PlanError(f"the network answers with {shape} for one image, the data set has {classes} classes")
