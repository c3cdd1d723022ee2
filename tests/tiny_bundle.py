"""Make a tiny but real bundle, in well under a second, whose answers depend on the image.

`tests/conftest.py` loads this module on first use and hands it out as fixtures; tests do not import it.

The task: noisy 16×16 images in which the class decides a faintly brighter region (seen by latent channel 0)
and a faint texture (seen by channels 1 to 3). A wider head averages more pixels of each 4×4 patch, so width
and channels really buy accuracy, and all measured figures are true of these files.
"""

import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from isthmus.runtime import bundle as bundles
from isthmus.runtime.bundle import (
    DeviceAnswer,
    InputSpec,
    LatentSpec,
    Manifest,
    OperatingPoint,
    PointRecord,
    PointTable,
)
from isthmus.runtime.codecs import FrequencyTables, encode_payload
from isthmus.runtime.golden import write_golden

WIDTHS = (0.25, 0.5, 0.75, 1.0)
CHANNELS = (1, 2, 4)
LABELS = ("top-left", "top-right", "bottom")
ZERO_POINTS = (60, 128, 120, 100)
SCALE = 1 / 32


def draw_images(rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    labels = np.arange(count, dtype=np.int64) % 3
    images = rng.normal(90.0, 40.0, size=(count, 16, 16, 1))
    regions = ((slice(0, 8), slice(0, 8)), (slice(0, 8), slice(8, 16)), (slice(8, 16), slice(0, 16)))
    rows, columns = np.mgrid[0:16, 0:16]
    textures = ((columns % 4 < 2) * 2 - 1, (rows % 4 < 2) * 2 - 1, (rows + columns) % 2 * 2 - 1)
    for image, label in zip(images, labels, strict=True):
        image[regions[label]] += 12.0
        image += 5.0 * textures[label][:, :, None]
    return np.clip(images, 0, 255).astype(np.uint8), labels


def _head_nodes(width: float) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    # Four 4×4 patch filters over the first 16·width pixels of a patch: mean, both gradients, a checkerboard.
    rows, columns = np.mgrid[0:4, 0:4]
    patterns = np.stack(
        [
            np.ones((4, 4)),
            np.where(columns < 2, 1, -1),
            np.where(rows < 2, 1, -1),
            np.where((rows + columns) % 2, 1, -1),
        ]
    )
    seen = (np.arange(16) < round(16 * width)).reshape(4, 4)
    weights = (patterns * seen / seen.sum())[:, None]
    zero = np.array(ZERO_POINTS, np.float32) - np.array([40, 0, 0, 0], np.float32)
    initialisers = [
        numpy_helper.from_array(weights.astype(np.float32), "filters"),
        numpy_helper.from_array(zero, "zero"),
        numpy_helper.from_array(np.float32(0), "low"),
        numpy_helper.from_array(np.float32(255), "high"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["image_f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["image_f"], ["image_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["image_nchw", "filters", "zero"], ["code"], strides=[4, 4]),
        helper.make_node("Round", ["code"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "low", "high"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["latent"], to=TensorProto.UINT8),
    ]
    return nodes, initialisers


def _tail_nodes(gemm: NDArray[np.float32]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    initialisers = [
        numpy_helper.from_array(np.array(ZERO_POINTS, np.float32).reshape(1, 4, 1, 1), "zero_points"),
        numpy_helper.from_array(np.float32(SCALE), "scale"),
        numpy_helper.from_array(gemm[:-1], "weights"),
        numpy_helper.from_array(gemm[-1], "bias"),
    ]
    nodes = [
        helper.make_node("Cast", ["latent"], ["latent_f"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["latent_f", "zero_points"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["features"]),
        helper.make_node("Flatten", ["features"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
    ]
    return nodes, initialisers


def _save(path: Path, parts: list[tuple[list[onnx.NodeProto], list[onnx.TensorProto]]]) -> None:
    nodes = [node for part in parts for node in part[0]]
    initialisers = [tensor for part in parts for tensor in part[1]]
    forms = {
        "image": helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 16, 16, 1]),
        "latent": helper.make_tensor_value_info("latent", TensorProto.UINT8, ["n", 4, 4, 4]),
        "logits": helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3]),
    }
    graph = helper.make_graph(
        nodes, path.stem, [forms[nodes[0].input[0]]], [forms[nodes[-1].output[0]]], initialisers
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, value: NDArray[np.generic]) -> tuple[NDArray[np.generic], float]:
    started = time.perf_counter()
    (output,) = session.run(None, {session.get_inputs()[0].name: value})
    return np.asarray(output), time.perf_counter() - started


def _fit(latents: list[NDArray[np.uint8]], labels: NDArray[np.int64], channels: int) -> NDArray[np.float32]:
    # Least squares to one-hot targets over full and cut latents alike, so that every point is useful.
    flat = []
    for latent in latents:
        for kept in (channels,) if channels == 1 else CHANNELS:
            flat.append(_cut(latent, kept))
    features = np.concatenate(flat).astype(np.float64)
    features = ((features - np.array(ZERO_POINTS).reshape(1, 4, 1, 1)) * SCALE).reshape(len(features), -1)
    design = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    targets = np.tile(np.eye(3)[labels], (len(flat), 1)) * 8
    ridge = design.T @ design + 2.0 * np.eye(design.shape[1])
    return np.linalg.solve(ridge, design.T @ targets).astype(np.float32)


def _cut(latent_nchw: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    cut = latent_nchw.copy()
    cut[:, channels:] = np.array(ZERO_POINTS, np.uint8).reshape(1, 4, 1, 1)[:, channels:]
    return cut


def make_bundle(root: Path, name: str = "tiny", seed: int = 0) -> Path:
    root.mkdir(parents=True)
    for width in WIDTHS:
        _save(root / bundles.head_name(width), [_head_nodes(width)])
    heads = [_session(root / bundles.head_name(width)) for width in WIDTHS]
    train_images, train_labels = draw_images(np.random.default_rng(seed), 300)
    train_latents = [_run(head, train_images)[0].astype(np.uint8) for head in heads]
    gemm = _fit(train_latents, train_labels, max(CHANNELS))
    _save(root / bundles.TAIL, [_tail_nodes(gemm)])
    _save(root / bundles.EXIT, [_tail_nodes(_fit(train_latents[:2], train_labels, 1))])
    _save(root / bundles.LOCAL, [_head_nodes(1.0), _tail_nodes(gemm)])
    tables = FrequencyTables.fit(train_latents)
    (root / bundles.TABLES).write_bytes(tables.to_bytes())
    points = tuple(OperatingPoint(index, kept) for index in range(len(WIDTHS)) for kept in CHANNELS)
    table = _measure(root, heads, tables, points, seed)
    (root / bundles.POINTS).write_bytes(msgspec.json.encode(table))
    manifest = Manifest(
        schema_version=bundles.SCHEMA_VERSION,
        name=name,
        task="classification",
        labels=LABELS,
        input=InputSpec(height=16, width=16, channels=1),
        latent=LatentSpec(channels=4, height=4, width=4, zero_points=ZERO_POINTS),
        widths=WIDTHS,
        points=points,
        codecs=("rans", "raw"),
        table_id=tables.table_id,
        files={},
        provenance={"made_by": "tests/tiny_bundle.py", "seed": str(seed)},
    )
    write_golden(root, manifest, tables, draw_images(np.random.default_rng(seed + 2), 4)[0])
    bundles.write_manifest(root, manifest)
    return root


def _measure(
    root: Path,
    heads: list[ort.InferenceSession],
    tables: FrequencyTables,
    points: tuple[OperatingPoint, ...],
    seed: int,
) -> PointTable:
    images, labels = draw_images(np.random.default_rng(seed + 1), 48)
    tail, exit_, local = (_session(root / file) for file in (bundles.TAIL, bundles.EXIT, bundles.LOCAL))
    latents = [_run(head, images)[0].astype(np.uint8) for head in heads]
    head_s = [float(np.median([_run(head, images[:1])[1] for _ in range(9)])) for head in heads]

    def utility(logits: NDArray[np.generic]) -> float:
        return float((logits.argmax(axis=1) == labels).mean())

    records = []
    for point in points:
        latent = latents[point.width_index]
        sizes = [
            len(
                encode_payload(
                    frame[: point.channels], codec="rans", width_index=point.width_index, tables=tables
                )
            )
            for frame in latent
        ]
        records.append(
            PointRecord(
                point=point,
                utility=utility(_run(tail, _cut(latent, point.channels))[0]),
                bytes_mean=float(np.mean(sizes)),
                bytes_p95=float(np.percentile(sizes, 95)),
                bytes_max=max(sizes),
                head_s=head_s[point.width_index],
            )
        )
    exits = tuple(
        DeviceAnswer(
            utility=utility(_run(exit_, latent)[0]), compute_s=_run(exit_, latent[:1])[1], width_index=index
        )
        for index, latent in enumerate(latents)
    )
    answer, _ = _run(local, images)
    return PointTable(
        measured_on="tests/tiny_bundle.py, 48 drawn images",
        host="test host, 1 thread",
        teacher_utility=utility(answer),
        records=tuple(records),
        exits=exits,
        local=DeviceAnswer(utility=utility(answer), compute_s=_run(local, images[:1])[1]),
        tail_s=_run(tail, latents[-1][:1])[1],
    )
