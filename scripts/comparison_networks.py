"""Which networks are compared at an equal budget, as settings of `isthmus train`.

One course for all: the images seen, the batches, the views and their order, the losses of features and
answers, the optimiser and its learning rates, the layers after the cut (tuned or frozen), the running
average. What differs is what a method is made of: its layers, what its weights start from, how it quantises,
and its rate term.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.models.config import scaled_channels
from isthmus.models.families.pruned_structure import parse_layer
from isthmus.models.recipes import load_recipe

OURS, TOTAL, UNCALIBRATED = "slim-short", "slim-total", "ablation/no-calibration"
# Half of the training images in as many steps as `TOTAL` has.
HALF = "ablation/half-images"
BOTTLEFIT_CHANNELS = (3, 6, 9, 12)
# Loss per bit: from most of the accuracy to few bytes.
ENTROPIC_PRICES = (2e-5, 1e-4, 5e-4)
# Settings of a recipe that are our method's own; the rest is the course.
_METHOD = frozenset(
    {
        *("family", "channels", "channel_counts", "widths", "encoder", "decoder", "structure"),
        *("start", "start_rate", "start_delay", "start_ramp", "stem_steps", "linear_start"),
        *("target_bytes", "first_price", "price_speed", "rate_prefix_power"),
        *("full_channels", "offered_channels", "count_shares", "full_width_share", "width_shares"),
    }
)
# What delayed shrinking leaves to the full width alone, where it is used.
_DELAYED = 0.3
# Channels of an encoder's first stage in the ensemble, each next one has twice as many.
_STAGE = 48
# Short runs end before a longer average has forgotten where it began.
_AVERAGE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A network to train.

    Attributes:
        name: Its folder beside the others, as the benchmark looks for it.
        settings: What `isthmus train` takes.
    """

    name: str
    settings: Mapping[str, Any]


def contenders(
    recipe: str, *, epochs: int, seed: int, ablations: bool, without_half: int | None = None
) -> Iterator[Contender]:
    """Yield every network of the comparison for the task of `recipe`.

    Args:
        recipe: The task's recipe of ours.
        epochs: Passes of each, with one view an image and pass.
        seed: Of all.
        ablations: Whether to change parts of our method one at a time, too.
        without_half: Training images to hold out so that half of them are left; None: leave out the network
            that says what fewer images cost.
    """
    fixed = {"epochs": epochs, "views": epochs, "average": _AVERAGE, "exit_channels": 0, "seed": seed}
    ours = {**load_recipe(recipe), **fixed, "keep_teacher": False, "validation_every": 0}
    course = {name: value for name, value in ours.items() if name not in _METHOD}
    yield Contender(name=OURS, settings=ours)
    single = {**course, "nested_dropout": False, "full_width_share": 0.0}
    for channels in BOTTLEFIT_CHANNELS:
        own = {"family": "bottlefit", "channels": channels, "quantisation": "none", "rate_price": [0]}
        yield Contender(name=f"bottlefit/c{channels:02d}", settings={**single, **own})
    for index in range(len(ours["widths"])):
        yield Contender(
            name=f"dedicated/w{100 * ours['widths'][index]:03.0f}", settings=_dedicated(ours, index)
        )
    # As many images as the networks of one width had together: it stands for all of them. Every pass has
    # views of its own here, too; so many are drawn as they are needed, not kept.
    total = {**ours, "epochs": epochs * len(ours["widths"]), "views": 0}
    yield Contender(name=TOTAL, settings=total)
    if ablations:
        yield from _ablations(ours)
    if without_half is not None:
        # As many steps as with all images, each of them seen twice as often.
        half = {"validation": without_half, "epochs": 2 * total["epochs"]}
        yield Contender(name=HALF, settings={**total, **half})
    for number, price in enumerate(ENTROPIC_PRICES):
        own = {"family": "entropic", "channels": 24, "quantisation": "noise-round", "rate_price": [price]}
        stages = {"feature_share": 0.5, "freeze_encoder": True}
        yield Contender(name=f"entropic/price-{number + 1}", settings={**single, **own, **stages})
    yield Contender(name="ensemble", settings=_ensemble(ours, course))


def _ablations(ours: Mapping[str, Any]) -> Iterator[Contender]:
    """Yield ours with one part changed; statistics of no width of its own need no training."""
    unpriced = {name: value for name, value in ours.items() if name != "target_bytes"}
    yield Contender(name="ablation/no-nested-dropout", settings={**ours, "nested_dropout": False})
    yield Contender(name="ablation/no-rate-term", settings={**unpriced, "rate_price": [0]})
    yield Contender(name="ablation/delayed-shrinking", settings={**ours, "full_width_share": _DELAYED})
    yield Contender(name="ablation/alpha-divergence", settings={**ours, "answer_loss": "alpha"})


def _dedicated(ours: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return one width of ours as a network of its own: the same layers, and nothing shared."""
    structure = ours["structure"]
    share = structure.get("fractions", ours["widths"])[index]
    skipped = structure["skipped"][index] if structure.get("skipped") else ()
    layers = []
    for place, text in enumerate(structure["layers"]):
        spec = parse_layer(text)
        wide = {"channels": scaled_channels(spec.channels, share)} if spec.channels else {}
        hidden = {"hidden": scaled_channels(spec.hidden, share)} if spec.hidden else {}
        if place not in skipped:
            layers.append(str(type(spec)(**{**_fields(spec), **wide, **hidden})))
    return {
        **ours,
        "widths": [1.0],
        "full_width_share": 0.0,
        "structure": {"private": True, "layers": layers},
    }


def _fields(spec: Any) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def _ensemble(ours: Mapping[str, Any], course: Mapping[str, Any]) -> dict[str, Any]:
    recipe = load_recipe("ensemble")
    kept = {name: recipe[name] for name in ("family", "full_channels", "offered_channels")}
    # Its latent has the plane of ours, and at each place as many values: of one to four bits, ours of eight.
    own = {**_stages(ours), "channels": ours["channels"], "decoder": ours["decoder"], "rate_price": [0]}
    return {**course, **kept, **own, "full_width_share": ours["full_width_share"]}


def _stages(ours: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stages of convolutions that lead an encoder to the plane of our latent."""
    strides = [parse_layer(text).stride for text in ours["structure"]["layers"]]
    halvings = math.prod(strides).bit_length() - 1
    # From large images the first stage goes a quarter of the way at once: with halvings alone an ensemble
    # would compute more than the uncut network.
    first = 4 if halvings > 3 else 2
    stages = halvings - 1 if first == 4 else halvings
    encoder = {"encoder": ",".join(f"{_STAGE * 2**number}x1" for number in range(stages))}
    large = {"structure": {"strides": [first, *[2] * (stages - 1)], "stem_kernel": 7}}
    return {**encoder, **(large if first == 4 else {})}
