"""The entropy coder: nanoseconds a symbol, and bytes against its tables' entropy, zlib and LZ4.

Options:
    bundle: A bundle whose own latents are coded too, those of its widest head, with its own tables.
    dataset: The images for that, as `isthmus eval --dataset` takes them; ones its tables have not seen.
    fitting: Images that its tables were fitted to: the same latents are then also coded with tables without
        contexts fitted to these.

The other latents are drawn, not recorded: discretised Laplace and logistic channels whose scale falls from
channel to channel, as in a trained bottleneck, all from `SEED`; in `related` cases values are like their
neighbours, and as loud as the first channel, so that contexts tell something. Tables are fitted to one draw,
every figure is taken on another. The contenders take turns within each round, each round codes every latent
once (numpy a few of them), and the spread is over rounds.
"""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.evaluate import load_test_images
from isthmus.runtime.bundle import TABLES, load_bundle
from isthmus.runtime.codecs import (
    CODECS,
    FrequencyTables,
    RansCodec,
    decode_payload,
    encode_payload,
)
from isthmus.runtime.codecs.rans import HAS_C, Backend
from isthmus.runtime.errors import InputError

SEED = 20_240
NUMPY_LATENTS = 4
BACKENDS: tuple[Backend, ...] = ("c", "numpy") if HAS_C else ("numpy",)
Shape = tuple[int, int, int]
Timing = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What to draw: the shape, the family and scale of the first channel, the factor to the next.

    `fitted` latents fit the tables; 32,768 values a channel are needed for contexts.
    """

    shape_chw: Shape
    family: str
    scale: float
    decay: float
    fitted: int = 512


@dataclass(frozen=True, slots=True)
class Sample:
    """Latents of a width with their tables; `alone` are tables without contexts, if there are any."""

    latents: list[NDArray[np.uint8]]
    tables: FrequencyTables
    alone: FrequencyTables | None
    width: int


CASES: Mapping[str, Case] = {
    "8x8x8": Case(shape_chw=(8, 8, 8), family="laplace", scale=1.5, decay=0.8),
    "12x8x8": Case(shape_chw=(12, 8, 8), family="laplace", scale=4.0, decay=0.8),
    "16x8x8": Case(shape_chw=(16, 8, 8), family="logistic", scale=5.0, decay=0.85),
    "24x28x28": Case(shape_chw=(24, 28, 28), family="laplace", scale=3.0, decay=0.88, fitted=40),
    "12x8x8 related": Case(shape_chw=(12, 8, 8), family="related", scale=3.0, decay=0.8, fitted=4000),
    "12x14x14 related": Case(shape_chw=(12, 14, 14), family="related", scale=3.0, decay=0.8, fitted=1500),
}


def run(
    *,
    quick: bool = False,
    bundle: str | None = None,
    dataset: str | None = None,
    fitting: str | None = None,
) -> dict[str, Any]:
    """Return `figures` and `ratios` of every case; `quick` takes fewer rounds and latents.

    Raises:
        InputError: If only one of `bundle` and `dataset` is given, or they do not fit.
    """
    figures: dict[str, Any] = {"coders": list(BACKENDS)}
    ratios: dict[str, Any] = {}
    samples: dict[str, Sample] = {}
    for name, case in CASES.items():
        rng = np.random.default_rng(SEED)
        measured = 64 if case.shape_chw[1] <= 8 else 16
        fitted = _draw(case, case.fitted, rng)
        samples[name] = Sample(
            list(_draw(case, measured // 4 if quick else measured, rng)),
            FrequencyTables.fit([fitted]),
            FrequencyTables.fit([fitted], contexts=False),
            0,
        )
    if bundle is not None or dataset is not None:
        samples["bundle"] = _of_bundle(bundle, dataset, fitting, 16 if quick else 256)
    for name, sample in samples.items():
        sizes = _sizes(sample)
        timings = _timings(sample, rounds=5 if quick else 15)
        figures[name] = {
            "symbols": sample.latents[0].size,
            "latents": len(sample.latents),
            "channels_with_contexts": sum(
                net is not None for net in sample.tables.width(sample.width).networks
            ),
            "table_file_bytes": len(sample.tables.to_bytes()),
            "bytes": sizes,
            "ns_per_symbol": timings,
        }
        ratios[name] = _ratios(sizes, timings)
    return {"figures": figures, "ratios": ratios}


def _of_bundle(bundle: str | None, dataset: str | None, fitting: str | None, count: int) -> Sample:
    """Return latents of the widest head, and the bundle's tables."""
    if bundle is None or dataset is None:
        raise InputError("codec needs both --option bundle=DIR and --option dataset=SPEC, or neither")
    loaded = load_bundle(bundle)
    bank = WidthBank(loaded, threads=1)
    width = len(loaded.manifest.widths) - 1

    def latents(spec: str, limit: int | None) -> list[NDArray[np.uint8]]:
        images = load_test_images(loaded, spec, limit=limit).images
        return [bank.head(width, image)[0] for image in images]

    alone = None
    if fitting is not None:
        alone = FrequencyTables.fit([np.stack(latents(fitting, None))] * (width + 1), contexts=False)
    tables = FrequencyTables.from_bytes(loaded.read(TABLES), source=TABLES)
    return Sample(latents(dataset, count), tables, alone, width)


def _draw(case: Case, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return uint8 [count, C, H, W] around 128."""
    scale = case.scale * case.decay ** np.arange(case.shape_chw[0])
    shape = (count, *case.shape_chw)
    if case.family == "related":
        values = _related(shape, rng)
    else:
        values = rng.laplace(size=shape) if case.family == "laplace" else rng.logistic(size=shape)
    latents: NDArray[np.uint8] = np.clip(np.rint(128 + values * scale[:, None, None]), 0, 255).astype(
        np.uint8
    )
    return latents


def _related(shape: tuple[int, int, int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    noise = rng.normal(size=(shape[0], shape[1], shape[2] + 1, shape[3] + 1))
    smooth = noise[..., 1:, 1:] + noise[..., :-1, 1:] + noise[..., 1:, :-1] + noise[..., :-1, :-1]
    smooth[:, 1:] *= np.abs(smooth[:, :1]) / 2
    return np.asarray(smooth)


def _sizes(sample: Sample) -> dict[str, float]:
    """Return mean bytes of a latent; a body is what a codec makes, a payload has its frame as well."""
    latents, tables, width = sample.latents, sample.tables, sample.width
    bodies = {
        name: [len(codec.encode(latent, tables, width)) for latent in latents]
        for name, codec in CODECS.items()
    }
    ideal = [tables.ideal_bits(latent, width) / 8 for latent in latents]
    over = [body - best for body, best in zip(bodies["rans"], ideal, strict=True)]
    payloads = [
        len(encode_payload(latent, codec="rans", width_index=width, tables=tables)) for latent in latents
    ]
    found = {
        "table_entropy": statistics.fmean(ideal),
        "rans_body": statistics.fmean(bodies["rans"]),
        "rans_body_over_entropy_mean": statistics.fmean(over),
        "rans_body_over_entropy_max": max(over),
        "rans_payload": statistics.fmean(payloads),
        "zlib9_of_raw": statistics.fmean(len(zlib.compress(latent.tobytes(), 9)) for latent in latents),
        "bitshuffle_lz4_body": statistics.fmean(bodies["bitshuffle-lz4"]),
        "raw_body": statistics.fmean(bodies["raw"]),
    }
    if sample.alone is not None:
        found["table_entropy_without_contexts"] = statistics.fmean(
            sample.alone.ideal_bits(latent, width) / 8 for latent in latents
        )
    return found


def _timings(sample: Sample, *, rounds: int) -> dict[str, Timing]:
    """Return nanoseconds a symbol: median, quartiles and minimum over rounds.

    `encode` and `decode` are one call of the codec on a latent; `payload_*` the same with the frame and its
    checksum, by the coder that this process uses.
    """
    latents, tables, width = sample.latents, sample.tables, sample.width
    shape: Shape = (latents[0].shape[0], latents[0].shape[1], latents[0].shape[2])
    contenders: dict[str, Callable[[], object]] = {}
    for backend in BACKENDS:
        contenders |= _codec_contenders(backend, sample)
    payloads = [encode_payload(latent, codec="rans", width_index=width, tables=tables) for latent in latents]
    contenders["payload_encode"] = lambda: [
        encode_payload(latent, codec="rans", width_index=width, tables=tables) for latent in latents
    ]
    contenders["payload_decode"] = lambda: [
        decode_payload(data, tables=tables, max_latent_bytes=1 << 20, expect=shape) for data in payloads
    ]
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():  # the first run builds the lookup tables
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            few = name.startswith("numpy")  # a thousand times slower: a few latents are enough
            started = time.perf_counter_ns()
            call()
            symbols = (min(len(latents), NUMPY_LATENTS) if few else len(latents)) * latents[0].size
            taken[name].append((time.perf_counter_ns() - started) / symbols)
    return {name: _spread(values) for name, values in taken.items()}


def _spread(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "first_quartile": low, "third_quartile": high, "min": min(values)}


def _codec_contenders(backend: Backend, sample: Sample) -> dict[str, Callable[[], object]]:
    codec = RansCodec(backend=backend)
    latents, tables, width = sample.latents, sample.tables, sample.width
    if backend == "numpy":
        latents = latents[:NUMPY_LATENTS]
    shape: Shape = (latents[0].shape[0], latents[0].shape[1], latents[0].shape[2])
    bodies = [codec.encode(latent, tables, width) for latent in latents]
    for latent, body in zip(latents, bodies, strict=True):  # a wrong coder has no speed
        if not np.array_equal(codec.decode(body, shape, tables, width), latent):
            raise AssertionError(f"rans ({backend}) does not give back what it coded")
    return {
        f"{backend}_encode": lambda: [codec.encode(latent, tables, width) for latent in latents],
        f"{backend}_decode": lambda: [codec.decode(body, shape, tables, width) for body in bodies],
    }


def _ratios(sizes: dict[str, float], timings: dict[str, Timing]) -> dict[str, float]:
    ratios = {
        "rans_body_over_table_entropy": sizes["rans_body"] / sizes["table_entropy"],
        "rans_payload_over_table_entropy": sizes["rans_payload"] / sizes["table_entropy"],
        "frame_share_of_payload": (sizes["rans_payload"] - sizes["rans_body"]) / sizes["rans_payload"],
        "zlib9_over_rans_payload": sizes["zlib9_of_raw"] / sizes["rans_payload"],
        "bitshuffle_lz4_over_rans_body": sizes["bitshuffle_lz4_body"] / sizes["rans_body"],
    }
    if "table_entropy_without_contexts" in sizes:
        without = sizes["table_entropy_without_contexts"]
        ratios["saved_by_contexts"] = 1 - sizes["table_entropy"] / without
    if HAS_C:
        for way in ("encode", "decode"):
            slow, fast = timings[f"numpy_{way}"]["median"], timings[f"c_{way}"]["median"]
            ratios[f"numpy_over_c_{way}_time"] = slow / fast
    return ratios
