"""Accuracy, bytes and head time of every operating point of a bundle, answered by a real server process.

Options:
    bundle: The bundle's directory. Needed.
    dataset: Test images, as `isthmus eval --dataset` takes them. Needed.
    threads: ONNX Runtime threads of a head.

The engine is that of `isthmus eval`: heads run here, every payload crosses gRPC to an `isthmus serve`
process, and the answers are compared with the labels. `low` and `high` are 95 % Wilson intervals. How the
bundle was trained is copied from its manifest. `quick` takes 100 of the images.
"""

from __future__ import annotations

import asyncio
from typing import Any

from isthmus.cli.eval import server_address, summary
from isthmus.device_agents.evaluate import evaluate, load_test_images
from isthmus.runtime.bundle import load_bundle
from isthmus.runtime.errors import InputError

_QUICK_IMAGES = 100
# What makes a result comparable; where files lay on somebody's machine does not.
_PROVENANCE = (
    "model",
    "cut",
    "teacher_digest",
    "test_teacher_accuracy",
    "train_seconds",
    "train_steps",
    "train_seed",
    "train_torch",
)


def run(
    *, quick: bool = False, bundle: str | None = None, dataset: str | None = None, threads: int = 1
) -> dict[str, Any]:
    """Return the figures of the bundle's points.

    Raises:
        InputError: If an option is missing or the images do not fit.
    """
    if bundle is None or dataset is None:
        raise InputError("accuracy needs --option bundle=DIR --option dataset=SPEC")
    loaded = load_bundle(bundle)
    images = load_test_images(loaded, dataset, limit=_QUICK_IMAGES if quick else None)
    with server_address(None, loaded.root) as address:
        result = summary(loaded, asyncio.run(evaluate(loaded, images, server=address, threads=threads)))
    points = {
        f"width {point['width']:g}, {point['channels']} channels": {
            "accuracy": point["accuracy"]["value"],
            "accuracy_low": point["accuracy"]["low"],
            "accuracy_high": point["accuracy"]["high"],
            "bytes_mean": point["bytes_mean"],
            "bytes_p95": point["bytes_p95"],
            "bytes_max": point["bytes_max"],
            "head_s": point["head_s"],
        }
        for point in result["points"]
    }
    exits = {
        f"width {width:g}": share["value"]
        for width, share in zip(loaded.manifest.widths, result["exits"], strict=False)
    }
    stored = loaded.manifest.provenance
    provenance = {key: stored[key] for key in _PROVENANCE if key in stored}
    teacher = provenance.get("test_teacher_accuracy")
    figures = {"images": len(images), "points": points, "exit_accuracy": exits, "provenance": provenance}
    best = max(point["accuracy"]["value"] for point in result["points"])
    ratios = {"best_over_teacher_accuracy": best / float(teacher)} if teacher else {}
    return {"figures": figures, "ratios": ratios}
