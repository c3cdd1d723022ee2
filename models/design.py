"""Fit a bottleneck to a cut of a network: probe the cut, choose the latent's plane, write the config."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.models.backbones import MODELS
from isthmus.models.backbones.catalogue import GREY_MEAN, GREY_STD, IMAGENET_MEAN, IMAGENET_STD
from isthmus.models.config import SplitConfig
from isthmus.models.cutting import CutSite, later_levels, list_cuts, no_such_cut, split_at
from isthmus.models.families import family_named
from isthmus.models.families.pruned import NAME as PRUNED
from isthmus.models.families.pruned_structure import PrunedStructure
from isthmus.models.families.structure import chosen, read_structure
from isthmus.models.size import BottleneckSize
from isthmus.models.split_network import tensor_digest
from isthmus.models.thinning import thinned
from isthmus.runtime.errors import PlanError

__all__ = ["BottleneckSize", "design", "normalisation"]


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
    family = family_named(size.family)
    if size.family == PRUNED and not size.structure.get("layers") and site is not None:
        size = _thinned(size, teacher, sites, cut, shape_hwc)
    if site is None or not family.fits(site, shape_hwc, size):
        raise no_such_cut(cut, [other.name for other in sites if family.fits(other, shape_hwc, size)])
    layout = family.layout(site, shape_hwc, size)
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
        family=size.family,
        structure=layout.structure,
        channels=layout.channels,
        channel_counts=layout.channel_counts,
        latent_height=layout.latent_height,
        latent_width=layout.latent_width,
        encoder_stages=layout.encoder_stages,
        decoder_channels=layout.decoder_channels,
        decoder_blocks=layout.decoder_blocks,
        exit_channels=size.exit_channels,
        widths=layout.widths,
        tail_tuned=tail_tuned,
        non_negative=_non_negative(teacher, cut, example),
        later_levels=later_levels(sites, cut),
        teacher_digest=tensor_digest(teacher),
    )
    _check_classes(teacher, example, len(labels))
    return config


def _thinned(
    size: BottleneckSize,
    teacher: nn.Module,
    sites: Sequence[CutSite],
    cut: str,
    shape_hwc: tuple[int, int, int],
) -> BottleneckSize:
    """Return `size` with the layers that the teacher has through the cut, fewer of them."""
    asked = read_structure(PrunedStructure, size.structure, size.family)
    found = chosen(thinned(teacher, sites, cut, shape_hwc, size.widths, asked.head_share))
    return dataclasses.replace(size, structure={**found, **size.structure})


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
