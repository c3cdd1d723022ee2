"""Turn the settings of `isthmus train` into what the trainer takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from isthmus.models.augment import Augmentation, Mixing
from isthmus.models.families.pruned import NAME as PRUNED
from isthmus.models.option_layers import merged, with_defaults
from isthmus.models.recipes import load_recipe, recipe_for
from isthmus.models.schedule import NestedDropout, Schedule
from isthmus.models.settings import RateTerm, TrainSettings
from isthmus.models.size import BottleneckSize
from isthmus.partitioner.plan_file import read_plan
from isthmus.runtime.errors import InputError, PlanError


def cut_name(cut: str | None, plan: str | None) -> str:
    """Return the cut that was named directly or by a plan.

    Raises:
        PlanError: If neither or both are given, or the plan names no torch module.
    """
    if (cut is None) == (plan is None):
        raise PlanError("give either --cut NAME or --plan plan.json")
    if cut is not None:
        return cut
    assert plan is not None
    choice = read_plan(Path(plan).expanduser()).choice
    if choice.module is None:
        raise PlanError(f"{plan}: chose '{choice.kind}' and names no torch module; give --cut NAME")
    return choice.module


def whole_configuration(
    given: Mapping[str, Any], shape_hwc: tuple[int, int, int] | None, *, complete: bool = False
) -> dict[str, Any]:
    """Return every setting: those `given`, over the recipe they name or that suits the images, over defaults.

    What "auto" stands for on this machine is filled in, so that the result can be reproduced.

    Args:
        given: Settings by name.
        shape_hwc: Of the images; None: only a recipe that is named is used.
        complete: Whether they hold what a recipe gave already; it is not looked at again then.

    Raises:
        InputError: If the recipe cannot be used.
    """
    named = given.get("recipe") or (recipe_for(shape_hwc) if shape_hwc is not None else None)
    recipe = {} if complete or named is None else load_recipe(named)
    if "channels" in given:  # the recipe's prefixes belong to its own number of channels
        for name in ("channel_counts", "count_shares"):
            recipe.pop(name, None)
    if given.get("augment") is not None:
        for name in ("shift", "flip", "crop_scale", "jitter"):
            recipe.pop(name, None)
    settings = with_defaults(merged(recipe, given))
    settings["recipe"] = settings["recipe"] or named
    device = chosen_device(settings["device"])
    settings["device"] = str(device)
    settings["precision"] = _precision(settings["precision"], device)
    if settings["compile"] == "auto":
        settings["compile"] = "on" if device.type == "cuda" else "off"
    if settings["threads"] is None:
        settings["threads"] = torch.get_num_threads()
    return settings


def bottleneck_size(settings: Mapping[str, Any]) -> BottleneckSize:
    """Return the bottleneck that the settings describe; what they leave out has the usual size.

    Raises:
        InputError: If a setting cannot be read.
    """
    counts, widths, encoder = (settings[name] for name in ("channel_counts", "widths", "encoder"))
    family = settings["family"]
    if encoder == "auto":
        if family not in (None, PRUNED):
            raise InputError(f"encoder auto: bottleneck {family!r} has an encoder of its own; leave one out")
        family, encoder = PRUNED, None
    changes: dict[str, Any] = {
        "family": family,
        "channels": settings["channels"],
        "channel_counts": tuple(counts) if counts else None,
        "widths": tuple(float(width) for width in widths) if widths else None,
        "encoder": stages(encoder, "--encoder") if encoder else None,
        "exit_channels": settings["exit_channels"],
        "structure": _tupled(settings["structure"]) if settings["structure"] else None,
    }
    if settings["decoder"]:
        changes["decoder_channels"], changes["decoder_blocks"] = stages(settings["decoder"], "--decoder")[0]
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(BottleneckSize(), **given)


def train_settings(settings: Mapping[str, Any], shape_hwc: tuple[int, int, int]) -> TrainSettings:
    """Return how the settings train.

    Raises:
        InputError: If they contradict each other.
    """
    for name in ("epochs", "batch_size", "learning_rate"):
        if settings[name] is None:
            raise InputError(f"{name} is not set: the recipe leaves it out, give --{name.replace('_', '-')}")
    alike = {field.name for field in dataclasses.fields(TrainSettings)} & set(settings)
    values = {name: settings[name] for name in alike if settings[name] is not None}
    if "level_weights" in values:
        values["level_weights"] = _numbers(values["level_weights"])
    nested = NestedDropout(
        full=settings["full_channels"],
        offered=settings["offered_channels"],
        shares=_numbers(settings["count_shares"]),
    )
    return TrainSettings(
        **values,
        rate=_rate(settings),
        nested=nested if settings["nested_dropout"] else None,
        schedule=_schedule(settings),
        augmentation=_augmentation(settings, shape_hwc),
        mixing=Mixing(mixup=settings["mixup"], cutmix=settings["cutmix"]),
        compiled=settings["compile"] == "on",
    )


def _schedule(settings: Mapping[str, Any]) -> Schedule:
    return Schedule(
        warm_up=settings["warm_up"],
        features=settings["feature_share"],
        full_width=settings["full_width_share"],
        ramp=settings["ramp_share"],
        ramp_start=settings["ramp_start"],
        decay=settings["decay"],
        steps=_numbers(settings["decay_steps"]),
        factor=settings["decay_factor"],
        restart=settings["restart"],
        sandwich=settings["sandwich"],
        random_widths=settings["random_widths"],
        width_shares=_pair(settings["width_shares"]),
    )


def _rate(settings: Mapping[str, Any]) -> RateTerm:
    price, target = settings["rate_price"], settings["target_bytes"]
    if price is not None and target is not None:
        raise InputError("target_bytes and rate_price: give one of them, the target steers the price")
    alike = {"speed": settings["price_speed"], "prefix_power": settings["rate_prefix_power"]}
    if target is None:
        return RateTerm(price=_numbers(price) or (0.0,), **alike)
    rows = [row if isinstance(row, list) else [row] for row in target]
    if min(value for row in rows for value in row) <= 0:
        raise InputError(f"target_bytes {target}: give bytes above 0, or rate_price 0 for no rate term")
    return RateTerm(
        target_bits=tuple(tuple(8.0 * value for value in row) for row in rows),
        price=(settings["first_price"],),
        **alike,
    )


def _augmentation(settings: Mapping[str, Any], shape_hwc: tuple[int, int, int]) -> Augmentation:
    eighth = max(1, shape_hwc[0] // 8)
    usual: dict[str, dict[str, Any]] = {
        "none": {},
        "shift": {"shift": eighth},
        "shift-flip": {"shift": eighth, "flip": True},
        "crop-flip": {"crop_scale": 0.35, "flip": True},
    }
    values = usual[settings["augment"] or "none"]
    names = ("shift", "flip", "crop_scale", "jitter")
    values = values | {name: settings[name] for name in names if settings[name] is not None}
    return Augmentation(**values)


def chosen_device(name: str) -> torch.device:
    """Return the device that `name` asks for; "auto" is a GPU where there is one.

    Raises:
        InputError: If it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}: give auto, cpu, cuda or cuda:N") from None
    present = torch.cuda.device_count() if device.type == "cuda" else int(device.type == "cpu")
    if (device.index or 0) >= present:
        raise InputError(f"device {name!r}: this machine has no such device; give auto or cpu")
    return device


def _precision(asked: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return the precision asked for, or what is fast on this device."""
    if asked != "auto":
        return "bfloat16" if asked == "bfloat16" else "float32"
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # Without these instructions bfloat16 is emulated and slower than float32.
    return "bfloat16" if torch.cpu.get_capabilities().get("avx512_bf16", False) else "float32"


def per_channel(values: list[float] | None, flag: str, channels: int) -> tuple[float, ...] | None:
    """Return the normalisation `flag` gives per image channel, or None where it is not given.

    Raises:
        InputError: If it has another number of values.
    """
    if values is None:
        return None
    if len(values) != channels:
        text = ",".join(f"{value:g}" for value in values)
        raise InputError(f"{flag} {text!r}: give {channels} values, one per channel of the images")
    return tuple(float(value) for value in values)


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


def _numbers(values: list[float] | None) -> tuple[float, ...]:
    return tuple(float(value) for value in values or ())


def _pair(values: list[float]) -> tuple[float, float]:
    if len(values) != 2 or min(values) <= 0 or sum(values) > 1:
        raise InputError(f"width_shares {values}: give the widest's and narrowest's part, at most 1 together")
    return float(values[0]), float(values[1])


def _tupled(structure: Mapping[str, Any]) -> dict[str, Any]:
    def tupled(value: Any) -> Any:
        return tuple(tupled(item) for item in value) if isinstance(value, list) else value

    return {name: tupled(value) for name, value in structure.items()}
