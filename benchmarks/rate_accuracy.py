"""Accuracy against bytes and against the device's time: our bottleneck, published ones, image codecs.

What `scripts/train-comparison TASK` trained at an equal budget is compared at that budget: with `slim-short`,
our own network of as many images. `slim`, if it is there, was trained for longer and heads the table.

Options:
    task: cifar10-resnet56 or imagenette-mobilenetv2. Needed.
    models: Folder of the trained bundles, by default runs/rate-accuracy/TASK: one folder a method, each a
        bundle or a folder of bundles (`slim`, `slim-short`, `bottlefit/c03`, `dedicated/w025`,
        `ablation/no-rate-term`). Methods that are not there are listed as missing; ablations that the
        comparison does not have (any more) are listed as left out. In `codecs` there is kept what image
        codecs' files weigh and are worth: an hour on large images, and always the same.
    threads: ONNX Runtime threads.
    table: Where the table goes as Markdown, and the picture beside it as .png; by default
        benchmarks/results/rate_accuracy-TASK.md, but nowhere with `quick` or another folder of models.
        "none" writes neither.

Every method answers for the same images, so differences are paired: intervals are 95 % percentiles over 1,000
draws of images, the same draws for all. `bytes` are whole payloads or files. A front keeps what no other
setting of its method beats in both bytes and accuracy. "Bytes at 1 point" are those of the smallest setting,
as measured, within 1.0 point of the uncut network; Bjøntegaard's rate difference is taken from 10 points to
1 point below it, as far as both curves reach (the stretch is stated), and over all that both reach. `quick`
takes 100 images and each third quality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _networks import ROOT
from _rate.contenders import UncutNetwork, bottleneck, raw_features
from _rate.curves import Images, Setting, front, least_bytes
from _rate.equal import against_dedicated, against_whole, spans
from _rate.image_codecs import IMAGE_CODECS, image_codec
from _rate.picture import draw
from _rate.places import ABLATIONS, SHORT, TOTAL, ablations_in, bundles_in, table_file
from _rate.table import markdown
from _rate.tasks import Part, Task, load_task

from isthmus.runtime.bundle import Bundle
from isthmus.runtime.errors import InputError

OURS, DEDICATED, ABLATION = "slim", "dedicated", "ablation"
# Folder: (method, codec). A published bottleneck is shown as published, and with our coder as well.
_METHODS = {
    OURS: ((OURS, "rans"),),
    SHORT: ((SHORT, "rans"),),
    TOTAL: ((TOTAL, "rans"),),
    "bottlefit": (("BottleFit uint8", "raw"), ("BottleFit + rans", "rans")),
    "entropic": (("Entropic Student", "rans"),),
    "ensemble": (("ensemble encoders", "rans"),),
    DEDICATED: (("dedicated per width", "rans"),),
}
_LOSS = 0.01
_STRETCH = (0.10, 0.01)
# The two ways to give one network for all widths what the networks of one width have.
_BUDGETS = {
    SHORT: "slim-short: as many images as each of them",
    TOTAL: "slim-total: as many images as all of them together",
}
# Every accuracy that both curves reach.
_ALL = (1.0, -1.0)
_QUICK_IMAGES = 100


def run(
    *,
    quick: bool = False,
    task: str | None = None,
    models: str | None = None,
    threads: int = 1,
    table: str | None = None,
) -> dict[str, Any]:
    """Return the table of one task, and how our bottleneck compares.

    Raises:
        InputError: If the task is unknown, the data is not here, there is no bundle of ours, or the table
            cannot be written.
    """
    if task is None:
        raise InputError("rate_accuracy needs --task cifar10-resnet56 or --task imagenette-mobilenetv2")
    usual = ROOT / "runs" / "rate-accuracy" / task
    folder = Path(models) if models else usual
    file = table_file(task, table, kept=not quick and folder.resolve() == usual.resolve())
    loaded = load_task(task, limit=_QUICK_IMAGES if quick else None)
    bundles = {method: found for method in _METHODS if (found := bundles_in(folder / method))}
    ours = next((name for name in (OURS, SHORT) if name in bundles), None)
    if ours is None:
        raise InputError(f"{folder / OURS}: no bundle there; train and export it, or give --models DIR")
    ablations, left_out = ablations_in(folder / ABLATION)
    uncut = UncutNetwork(loaded, threads)
    figures: dict[str, Any] = {
        "missing": [name for name in _METHODS if name not in bundles] or "none",
        "left_out": left_out or "none",
    }
    ratios: dict[str, Any] = {}
    for position, part in enumerate(loaded.parts):
        teacher = uncut.setting(part)
        kept = None if quick else folder / "codecs"
        methods = _run_methods(loaded, part, uncut, bundles, kept, threads, every=3 if quick else 1)
        figures[part.name] = _table(part, teacher, methods)
        ratios[part.name] = {
            "spans": spans(Images(part.truth_n), methods[ours]),
            **_comparison(part, teacher, methods, ours),
            **(_equal_budget(part, teacher, methods, ablations, threads) if SHORT in methods else {}),
        }
        if position == 0 and file is not None:
            title = f"{task}, {part.name} images"
            images = Images(part.truth_n, draws=1)
            draw(title, methods, IMAGE_CODECS, teacher, images, file.with_suffix(".png"))
    text = markdown(task, figures, ratios)
    if file is not None:
        file.write_text(text + "\n", encoding="utf-8")
    return {"figures": figures, "ratios": ratios, "text": text}


def _run_methods(
    task: Task,
    part: Part,
    uncut: UncutNetwork,
    bundles: dict[str, list[Bundle]],
    kept: Path | None,
    threads: int,
    *,
    every: int,
) -> dict[str, list[Setting]]:
    methods: dict[str, list[Setting]] = {}
    for name, found in bundles.items():
        for method, codec in _METHODS[name]:
            methods[method] = [
                setting
                for bundle in found
                for setting in bottleneck(method, bundle, part, codec=codec, threads=threads)
            ]
    for name in IMAGE_CODECS:
        methods[name] = list(image_codec(name, part, uncut, kept, every=every))
    cut = next(iter(bundles.values()))[0].manifest.provenance["cut"]
    for setting in raw_features(task, part, cut, threads):
        methods[setting.method] = [setting]
    return methods


def _table(part: Part, teacher: Setting, methods: dict[str, list[Setting]]) -> dict[str, Any]:
    images = Images(part.truth_n)
    agreed = Images(teacher.answers_n)
    table: dict[str, Any] = {
        "images": len(part.truth_n),
        "uncut network": {
            "accuracy_percent": round(100 * float(images.scores(teacher)[0]), 2),
            "device_ms": round(1000 * teacher.device_s, 4),
        },
    }
    for method, settings in methods.items():
        sizes = np.array([images.sizes(one)[0] for one in settings])
        scores = np.array([images.scores(one)[0] for one in settings])
        kept = set(front(sizes, scores).tolist())
        table[method] = {
            one.setting: {
                "bytes_mean": round(float(sizes[index]), 1),
                "accuracy_percent": round(100 * float(scores[index]), 2),
                "points_from_uncut": images.difference(one, teacher).as_figures(100, 2),
                "agreement_percent": round(100 * float(agreed.scores(one)[0]), 2),
                "device_ms": round(1000 * one.device_s, 4),
                "on_front": index in kept,
            }
            for index, one in enumerate(settings)
        }
    return table


def _comparison(part: Part, teacher: Setting, methods: dict[str, list[Setting]], ours: str) -> dict[str, Any]:
    """Compare ours with every method and with the image codecs' envelope, on accuracy and on agreement."""
    truths = {"accuracy": part.truth_n, "agreement": teacher.answers_n}
    own = (ours, SHORT, TOTAL)
    rivals = {name: found for name, found in methods.items() if name not in own and len(found) > 1}
    rivals["image codecs (envelope)"] = [one for name in IMAGE_CODECS for one in methods[name]]
    return {
        measure: _against(Images(truth), teacher, methods[ours], rivals) for measure, truth in truths.items()
    }


def _equal_budget(
    part: Part,
    teacher: Setting,
    methods: dict[str, list[Setting]],
    ablations: Mapping[str, Bundle],
    threads: int,
) -> dict[str, Any]:
    """Compare our network of the equal budget with what was trained alike: others, one a width, ablations."""
    images, short = Images(part.truth_n), methods[SHORT]
    names = (method for folder, kinds in _METHODS.items() if folder != OURS for method, _ in kinds)
    own = (SHORT, TOTAL)
    rivals = {name: methods[name] for name in names if name not in own and len(methods.get(name, ())) > 1}
    result: dict[str, Any] = {}
    if rivals:
        result["accuracy at equal budget"] = _against(images, teacher, short, rivals)
    alone: dict[float, list[Setting]] = {}
    for method, _ in _METHODS[DEDICATED]:
        for one in methods.get(method, ()):
            # The bundle of a width alone is called after it: its own only width is 1.
            assert one.point is not None
            alone.setdefault(int(one.setting.partition(":")[0].lstrip("w")) / 100, []).append(one)
    if alone:
        result["one for all widths minus one per width"] = {
            said: against_dedicated(images, methods[method], alone)
            for method, said in _BUDGETS.items()
            if method in methods
        }
    if ablations:
        result["ablations minus whole"] = {
            f"{name} (of {ABLATIONS[name]})": against_whole(
                images,
                methods[ABLATIONS[name]],
                list(bottleneck(name, bundle, part, codec="rans", threads=threads)),
            )
            for name, bundle in ablations.items()
            if ABLATIONS[name] in methods
        }
    return result


def _against(
    images: Images, teacher: Setting, ours: Sequence[Setting], rivals: Mapping[str, Sequence[Setting]]
) -> dict[str, Any]:
    wanted = float(images.scores(teacher)[0]) - _LOSS
    own = _least(images, ours, wanted)
    shown: dict[str, Any] = {"bytes_at_1_point_ours": own if own is not None else "not reached"}
    for name, settings in rivals.items():
        other = _least(images, settings, wanted)
        shown[name] = {
            "bytes_at_1_point": other if other is not None else "not reached",
            "ours_over_theirs": round(own / other, 3) if own and other else "not comparable",
            "bjontegaard_rate_percent": _bjontegaard(images, ours, settings, teacher, _STRETCH),
            "stretch_percent": _stretch(images, ours, settings, teacher, _STRETCH),
            "bjontegaard_over_all_percent": _bjontegaard(images, ours, settings, teacher, _ALL),
            "all_percent": _stretch(images, ours, settings, teacher, _ALL),
        }
    return shown


def _least(images: Images, settings: Sequence[Setting], wanted: float) -> float | None:
    sizes = np.array([images.sizes(one)[0] for one in settings])
    scores = np.array([images.scores(one)[0] for one in settings])
    found = least_bytes(sizes, scores, wanted)
    return None if found is None else round(found, 1)


def _bjontegaard(
    images: Images,
    ours: Sequence[Setting],
    theirs: Sequence[Setting],
    teacher: Setting,
    below: tuple[float, float],
) -> Any:
    found = images.bjontegaard(ours, theirs, teacher, below=below)
    return "no stretch in common" if found is None else found.as_figures(100, 1)


def _stretch(
    images: Images,
    ours: Sequence[Setting],
    theirs: Sequence[Setting],
    teacher: Setting,
    below: tuple[float, float],
) -> str:
    found = images.stretch(ours, theirs, teacher, below=below)
    return "none" if found is None else f"{100 * found[0]:.1f} to {100 * found[1]:.1f}"
