"""Heads in 32 and in 8 bits, per width: time, and what they are worth, beside the layers they replace.

Options:
    checkpoint: A checkpoint of `isthmus train`, or
    zoo: the name or folder of a zoo entry. One of the two is needed.
    weights: Weights of the uncut network, where the checkpoint leaves them out; always with `zoo`.
    dataset: Training images, as `isthmus export --dataset` takes them; integers are calibrated by
        them. Needed.
    test: Images for the accuracies. Needed.
    limit: Take so many of the test images.

Heads are written by the exporter itself. All contenders take one image by one thread, in turns. Accuracy is
that of the exported tail with all channels; `loss` is paired by image, with a 95 % interval. Both kinds of
8-bit heads are measured, `bytes` and `float` (see `isthmus.models.int8_head`). Whether `isthmus export
--heads auto` would ship one is for its own gate to say, on the images that training held out: `gate_loss`,
and `fp32_over_best_accurate_int8` of the faster one that passes; 0 if none does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isthmus.cli._export_zoo import Source
from isthmus.models.head_choice import MAX_LOSS, Answers, compare
from isthmus.models.int8_head import ENTRIES, write_int8_head
from isthmus.models.network import SplitNetwork
from isthmus.models.onnx_export import export_module
from isthmus.models.output_names import check_images, labelled_for
from isthmus.runtime.bundle.networks import Network
from isthmus.runtime.datasets import ImageSet, hold_out, load_prepared, spread
from isthmus.runtime.errors import InputError

_CALIBRATION_IMAGES = 256
_ROUNDS, _QUICK_ROUNDS, _WARM_ROUNDS = 300, 20, 5
_QUICK_IMAGES = 100
_REPLACED, _TAIL, _FP32 = "layers replaced", "tail", "fp32"


def run(
    *,
    quick: bool = False,
    checkpoint: str | None = None,
    zoo: str | None = None,
    weights: str | None = None,
    dataset: str | None = None,
    test: str | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Return times and accuracies of all heads.

    Raises:
        InputError: If an option is missing or the images do not fit.
    """
    if (checkpoint is None) == (zoo is None) or dataset is None or test is None:
        raise InputError("heads needs --option checkpoint=FILE or zoo=NAME, dataset=SPEC and test=SPEC")
    network, facts = Source(
        checkpoint=Path(checkpoint) if checkpoint else None,
        zoo=zoo,
        to_zoo=None,
        weights=Path(weights) if weights else None,
    ).load()
    held_out = int(facts.get("held_out", 0))
    if not held_out:
        raise InputError(
            f"{checkpoint or zoo}: training held no images out, so the gate has none to judge by"
        )
    fitting, judged = hold_out(_images(network, facts, dataset, "train", None), held_out)
    if quick:
        judged = judged.subset(spread(len(judged), _QUICK_IMAGES), name=judged.name)
    test_images = _images(network, facts, test, "test", _QUICK_IMAGES if quick else limit)
    measured = labelled_for(network, test_images)
    calibration = fitting.images[spread(len(fitting), _CALIBRATION_IMAGES)]
    with tempfile.TemporaryDirectory() as folder:
        networks = _networks(network, calibration, Path(folder))
    samples = _timed(networks, measured.images[:1], _QUICK_ROUNDS if quick else _ROUNDS)
    figures: dict[str, Any] = {
        "images": len(measured),
        "images_of_the_gate": len(judged),
        "measured_on": measured.name,
        "model": network.config.model,
        "cut": network.config.cut,
        "replaced_s": _spread(samples[_REPLACED]),
        "widths": {},
    }
    ratios: dict[str, Any] = {}
    replaced = float(np.median(samples[_REPLACED]))
    counts, judged = network.config.channel_counts, labelled_for(network, judged)
    gate = Answers(networks[_TAIL], counts, network.zero_points, judged)
    for width in network.config.widths:
        name = f"width {width:g}"
        figures["widths"][name], ratios[name] = _width(name, networks, samples, measured, replaced, gate)
    return {"figures": figures, "ratios": ratios}


def _images(
    network: SplitNetwork, facts: Mapping[str, Any], spec: str, split: Any, limit: int | None
) -> ImageSet:
    config = network.config
    size = (config.input_height, config.input_width)
    images = load_prepared(spec, split=split, size=size, arrays_too="size" in facts, limit=limit)
    check_images(config, images)
    return images


def _networks(network: SplitNetwork, calibration_nhwc: NDArray[np.uint8], folder: Path) -> dict[str, Network]:
    config = network.config
    image = torch.zeros(
        (2, config.input_height, config.input_width, config.input_channels), dtype=torch.uint8
    )
    latent = torch.zeros((2, config.channels, config.latent_height, config.latent_width), dtype=torch.uint8)
    replaced = nn.Sequential(network.normalise, network.teacher_head).eval()
    networks = {}

    def opened(name: str, file: Path) -> None:
        networks[name] = Network(name, file.read_bytes(), threads=1)

    for name, module, example in ((_REPLACED, replaced, image), (_TAIL, network.materialise_tail(), latent)):
        export_module(module, example, folder / "plain", input_name="image", output_name="features")
        opened(name, folder / "plain")
    for index, width in enumerate(config.widths):
        head = network.materialise_head(index)
        export_module(head, image, folder / "plain", input_name="image", output_name="latent")
        opened(f"width {width:g}, {_FP32}", folder / "plain")
        for entry in ENTRIES:
            write_int8_head(head, calibration_nhwc, folder / entry, entry=entry)
            opened(f"width {width:g}, {entry}", folder / entry)
    return networks


def _timed(
    networks: dict[str, Network], image_nhwc: NDArray[np.uint8], rounds: int
) -> dict[str, list[float]]:
    contenders = [name for name in networks if name != _TAIL]
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(_WARM_ROUNDS + rounds):
        for name in contenders:
            started = time.perf_counter()
            networks[name].run_batch(image_nhwc)
            elapsed = time.perf_counter() - started
            if number >= _WARM_ROUNDS:
                samples[name].append(elapsed)
    return samples


def _width(
    name: str,
    networks: dict[str, Network],
    samples: dict[str, list[float]],
    measured: ImageSet,
    replaced_s: float,
    gate: Answers,
) -> tuple[dict[str, Any], dict[str, float]]:
    kinds = (_FP32, *ENTRIES)
    latents = {kind: networks[f"{name}, {kind}"].run(measured.images) for kind in kinds}
    answers = {kind: networks[_TAIL].run(latent).argmax(axis=1) for kind, latent in latents.items()}
    right = {kind: answer == measured.labels for kind, answer in answers.items()}
    figures: dict[str, Any] = {}
    medians = {kind: float(np.median(samples[f"{name}, {kind}"])) for kind in kinds}
    for kind in kinds:
        lost = right[_FP32].astype(float) - right[kind]
        figures[kind] = {
            "head_s": _spread(samples[f"{name}, {kind}"]),
            "accuracy": float(right[kind].mean()),
            "agreement_with_fp32": float((answers[kind] == answers[_FP32]).mean()),
            "codes_equal_to_fp32": float((latents[kind] == latents[_FP32]).mean()),
            "loss": float(lost.mean()),
            "loss_margin_95": float(1.96 * lost.std() / len(lost) ** 0.5),
        }
    expected = gate.right(networks[f"{name}, {_FP32}"])
    for kind in ENTRIES:
        speedup = medians[_FP32] / medians[kind]
        judged = compare(kind, speedup, expected, gate.right(networks[f"{name}, {kind}"]))
        figures[kind] |= {"gate_loss": judged.loss, "gate_loss_margin_95": judged.margin}
    accurate = [kind for kind in ENTRIES if figures[kind]["gate_loss"] <= MAX_LOSS]
    best = min(accurate or ENTRIES, key=lambda kind: medians[kind])
    ratios = {f"fp32_over_{kind}": medians[_FP32] / medians[kind] for kind in ENTRIES}
    ratios["fp32_over_best_accurate_int8"] = medians[_FP32] / medians[best] if accurate else 0.0
    ratios["replaced_over_fp32"] = replaced_s / medians[_FP32]
    ratios["replaced_over_best_accurate_int8"] = replaced_s / medians[best] if accurate else 0.0
    return figures, ratios


def _spread(seconds: list[float]) -> dict[str, float]:
    first, median, third = (float(value) for value in np.percentile(seconds, (25, 50, 75)))
    return {"median": median, "first_quartile": first, "third_quartile": third}
