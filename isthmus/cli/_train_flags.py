"""Turn the flags of `isthmus train` into settings, over a recipe's defaults."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import torch

from isthmus.cli.train import Augment, Precision
from isthmus.models.augment import Augmentation
from isthmus.models.design import BottleneckSize
from isthmus.models.recipes import Recipe
from isthmus.models.train import TrainSettings
from isthmus.partitioner.plan_file import read_plan
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import InputError, PlanError


def cut_name(cut: str | None, plan: Path | None) -> str:
    """Return the cut that was named directly or by a plan.

    Raises:
        PlanError: If neither or both are given, or the plan names no torch module.
    """
    if (cut is None) == (plan is None):
        raise PlanError("give either --cut NAME or --plan plan.json")
    if cut is not None:
        return cut
    assert plan is not None
    choice = read_plan(plan).choice
    if choice.module is None:
        raise PlanError(f"{plan}: chose '{choice.kind}' and names no torch module; give --cut NAME")
    return choice.module


def bottleneck_size(
    size: BottleneckSize,
    channels: int | None,
    counts: str | None,
    widths: str | None,
    encoder: str | None,
    decoder: str | None,
    exit_channels: int | None,
) -> BottleneckSize:
    """Return the recipe's size with the flags that were given.

    Raises:
        InputError: If a flag cannot be read.
    """
    if channels is not None:  # the recipe's prefixes belong to its own number of channels
        size = dataclasses.replace(size, channel_counts=None)
    changes: dict[str, Any] = {
        "channels": channels,
        "channel_counts": numbers(counts, int, "--channel-counts") if counts else None,
        "widths": numbers(widths, float, "--widths") if widths else None,
        "encoder": stages(encoder, "--encoder") if encoder else None,
        "exit_channels": exit_channels,
    }
    if decoder:
        changes["decoder_channels"], changes["decoder_blocks"] = stages(decoder, "--decoder")[0]
    return dataclasses.replace(size, **{name: value for name, value in changes.items() if value is not None})


def train_settings(
    recipe: Recipe, *, target_bytes: float | None, rate_price: float | None, **given: Any
) -> TrainSettings:
    """Return the recipe's settings with the values in `given` that are not None.

    Raises:
        InputError: If both a target and a fixed price are given.
    """
    if target_bytes is not None and rate_price is not None:
        raise InputError("--target-bytes and --rate-price: give one of them, the target steers the price")
    values = {
        name: getattr(recipe, name) for name in ("epochs", "exit_epochs", "batch_size", "learning_rate")
    }
    values |= {name: value for name, value in given.items() if value is not None}
    if rate_price is not None:
        return TrainSettings(**values, rate_price=rate_price)
    return TrainSettings(**values, target_bits=8 * (target_bytes or recipe.target_bytes))


def augmentation(kind: Augment | None, images: ImageSet) -> Augmentation | None:
    """Return the augmentation asked for, or None where the recipe's is to be used."""
    if kind is None:
        return None
    shift = 0 if kind == "none" else max(1, images.shape_hwc[0] // 8)
    return Augmentation(shift=shift, flip=kind == "shift-flip")


def supported_precision(asked: Precision) -> Literal["float32", "bfloat16"]:
    """Return the precision asked for, or what is fast on this CPU."""
    if asked != "auto":
        return asked
    # Without these instructions bfloat16 is emulated and slower than float32.
    return "bfloat16" if torch.cpu.get_capabilities().get("avx512_bf16", False) else "float32"


def per_channel(text: str | None, flag: str, channels: int) -> tuple[float, ...] | None:
    """Return the normalisation `flag` gives per image channel, or None where it is not given.

    Raises:
        InputError: If it cannot be read or has another number of values.
    """
    if text is None:
        return None
    values = numbers(text, float, flag)
    if len(values) != channels:
        raise InputError(f"{flag} {text!r}: give {channels} values, one per channel of the images")
    return values


def numbers(text: str, kind: type[Any], flag: str) -> tuple[Any, ...]:
    """Return the comma-separated numbers of `flag`.

    Raises:
        InputError: If one is no number.
    """
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{flag} {text!r}: give numbers separated by commas") from None


def stages(text: str, flag: str) -> tuple[tuple[int, int], ...]:
    """Return the comma-separated CHANNELSxBLOCKS pairs of `flag`.

    Raises:
        InputError: If one is not such a pair.
    """
    try:
        pairs = [part.split("x") for part in text.split(",")]
        stages = tuple((int(channels), int(blocks)) for channels, blocks in pairs)
    except ValueError:
        stages = ()
    if not stages or any(channels < 4 or blocks < 0 for channels, blocks in stages):
        raise InputError(f"{flag} {text!r}: give CHANNELSxBLOCKS, at least 4 channels, as in 48x1,96x1")
    return stages
