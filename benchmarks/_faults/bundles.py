"""The bundles and images that scenarios run on: small, so that they start at once.

The device's own answer is made much poorer than the server's, so that a link that stays unused shows. All
tables are measured on the altered files.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from isthmus.runtime.bundle import EXIT, LOCAL, POINTS, head_name, load_bundle, write_manifest

_TINY = Path(__file__).resolve().parents[2] / "tests" / "tiny_bundle.py"
# Weights of the early exit that are kept, of 64: it sees a corner of the latent.
_KEPT = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """What the scenarios of one run share.

    Attributes:
        bundle: A bundle whose device answers by a poor early exit.
        mute: The same without any answer of the device's own.
        other: One of the same name and shape with other weights and tables.
        frames: 48 labelled images as `npz:FILE`.
    """

    bundle: Path
    mute: Path
    other: Path
    frames: str


def make_properties(folder: Path) -> Properties:
    """Write them into `folder`."""
    tiny = _load_tiny()
    images, labels = tiny.draw_images(np.random.default_rng(7), 48)
    np.savez(folder / "frames.npz", images=images, labels=labels)
    return Properties(
        bundle=_poor_exit(tiny, tiny.make_bundle(folder / "tiny")),
        mute=_without_answers(tiny.make_bundle(folder / "mute")),
        other=_poor_exit(tiny, tiny.make_bundle(folder / "other", seed=5)),
        frames=f"npz:{folder / 'frames.npz'}",
    )


def _load_tiny() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_bundle", _TINY)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _poor_exit(tiny: Any, root: Path) -> Path:
    manifest, table = load_bundle(root).manifest, load_bundle(root).points
    (root / LOCAL).unlink()
    model = onnx.load(root / EXIT)
    for initialiser in model.graph.initializer:
        if initialiser.name == "weights":
            weights = numpy_helper.to_array(initialiser).copy()
            weights[_KEPT:] = 0
            initialiser.CopyFrom(numpy_helper.from_array(weights, "weights"))
    (root / EXIT).write_bytes(model.SerializeToString())
    images, labels = tiny.draw_images(np.random.default_rng(11), 600)
    leave = _session(root / EXIT)
    exits = []
    for answer in table.exits:
        latents = _answer(_session(root / head_name(manifest.widths[answer.width_index])), images)
        utility = float((_answer(leave, latents).argmax(axis=1) == labels).mean())
        exits.append(msgspec.structs.replace(answer, utility=utility))
    return _rewrite(root, manifest, msgspec.structs.replace(table, local=None, exits=tuple(exits)))


def _without_answers(root: Path) -> Path:
    manifest, table = load_bundle(root).manifest, load_bundle(root).points
    (root / LOCAL).unlink()
    (root / EXIT).unlink()
    return _rewrite(root, manifest, msgspec.structs.replace(table, local=None, exits=()))


def _rewrite(root: Path, manifest: Any, table: Any) -> Path:
    (root / POINTS).write_bytes(msgspec.json.encode(table))
    write_manifest(root, manifest)
    load_bundle(root)
    return root


def _session(file: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])


def _answer(session: Any, value: Any) -> Any:
    return session.run(None, {session.get_inputs()[0].name: value})[0]
