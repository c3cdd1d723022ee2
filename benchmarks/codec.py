"""The entropy coder: nanoseconds a symbol, and bytes against its tables' entropy, zlib and LZ4.

Options:
    bundle: A bundle whose own latents are coded too, those of its narrowest head, with its own tables.
    dataset: The images for that, as `isthmus eval --dataset` takes them; ones its tables have not seen.

Latents are drawn, not recorded: discretised Laplace and logistic channels whose scale falls from channel to
channel, as in a trained bottleneck, all from `SEED`. Tables are fitted to one draw, every figure is taken
on another. The contenders take turns within each round, each round codes every latent once, and the spread
is over rounds.
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
    HEADER_BYTES,
    FrequencyTables,
    RansCodec,
    decode_payload,
    encode_payload,
)
from isthmus.runtime.codecs.rans import HAS_C, Backend
from isthmus.runtime.errors import InputError

SEED = 20_240
BACKENDS: tuple[Backend, ...] = ("c", "numpy") if HAS_C else ("numpy",)
Shape = tuple[int, int, int]
Timing = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What to draw: the shape, the family and scale of the first channel, the factor to the next."""

    shape_chw: Shape
    family: str
    scale: float
    decay: float


CASES: Mapping[str, Case] = {
    "8x8x8": Case(shape_chw=(8, 8, 8), family="laplace", scale=1.5, decay=0.8),
    "12x8x8": Case(shape_chw=(12, 8, 8), family="laplace", scale=4.0, decay=0.8),
    "16x8x8": Case(shape_chw=(16, 8, 8), family="logistic", scale=5.0, decay=0.85),
    "24x28x28": Case(shape_chw=(24, 28, 28), family="laplace", scale=3.0, decay=0.88),
}


def run(*, quick: bool = False, bundle: str | None = None, dataset: str | None = None) -> dict[str, Any]:
    """Return `figures` and `ratios` of every case; `quick` takes fewer rounds and latents.

    Raises:
        InputError: If only one of `bundle` and `dataset` is given, or they do not fit.
    """
    figures: dict[str, Any] = {"header_bytes": HEADER_BYTES, "coders": list(BACKENDS)}
    ratios: dict[str, Any] = {}
    samples: dict[str, tuple[list[NDArray[np.uint8]], FrequencyTables]] = {}
    for name, case in CASES.items():
        rng = np.random.default_rng(SEED)
        fitted, measured = (64, 8) if case.shape_chw[1] > 8 else (512, 64)
        tables = FrequencyTables.fit([_draw(case, fitted, rng)])
        samples[name] = (list(_draw(case, measured // 4 if quick else measured, rng)), tables)
    if bundle is not None or dataset is not None:
        samples["bundle"] = _of_bundle(bundle, dataset, 16 if quick else 256)
    for name, (latents, tables) in samples.items():
        sizes = _sizes(latents, tables)
        timings = _timings(latents, tables, rounds=5 if quick else 15)
        figures[name] = {
            "symbols": latents[0].size,
            "latents": len(latents),
            "bytes": sizes,
            "ns_per_symbol": timings,
        }
        ratios[name] = _ratios(sizes, timings)
    return {"figures": figures, "ratios": ratios}


def _of_bundle(
    bundle: str | None, dataset: str | None, count: int
) -> tuple[list[NDArray[np.uint8]], FrequencyTables]:
    """Return latents of the narrowest head, and the bundle's tables."""
    if bundle is None or dataset is None:
        raise InputError("codec needs both --option bundle=DIR and --option dataset=SPEC, or neither")
    loaded = load_bundle(bundle)
    images = load_test_images(loaded, dataset, limit=count)
    bank = WidthBank(loaded, threads=1)
    latents = [bank.head(0, image)[0] for image in images.images]
    return latents, FrequencyTables.from_bytes(loaded.read(TABLES), source=TABLES)


def _draw(case: Case, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return uint8 [count, C, H, W] around 128."""
    scale = case.scale * case.decay ** np.arange(case.shape_chw[0])
    shape = (count, *case.shape_chw)
    values = rng.laplace(size=shape) if case.family == "laplace" else rng.logistic(size=shape)
    latents: NDArray[np.uint8] = np.clip(np.rint(128 + values * scale[:, None, None]), 0, 255).astype(
        np.uint8
    )
    return latents


def _sizes(latents: list[NDArray[np.uint8]], tables: FrequencyTables) -> dict[str, float]:
    """Return mean bytes of a latent; a body is what a codec makes, a payload has the header as well."""
    bodies = {
        name: [len(codec.encode(latent, tables, 0)) for latent in latents] for name, codec in CODECS.items()
    }
    ideal = [tables.ideal_bits(latent, 0) / 8 for latent in latents]
    over = [body - best for body, best in zip(bodies["rans"], ideal, strict=True)]
    return {
        "table_entropy": statistics.fmean(ideal),
        "rans_body": statistics.fmean(bodies["rans"]),
        "rans_body_over_entropy_mean": statistics.fmean(over),
        "rans_body_over_entropy_max": max(over),
        "rans_payload": statistics.fmean(bodies["rans"]) + HEADER_BYTES,
        "zlib9_of_raw": statistics.fmean(len(zlib.compress(latent.tobytes(), 9)) for latent in latents),
        "bitshuffle_lz4_body": statistics.fmean(bodies["bitshuffle-lz4"]),
        "raw_body": statistics.fmean(bodies["raw"]),
    }


def _timings(latents: list[NDArray[np.uint8]], tables: FrequencyTables, *, rounds: int) -> dict[str, Timing]:
    """Return nanoseconds a symbol: median, quartiles and minimum over rounds.

    `encode` and `decode` are one call of the codec on a latent; `payload_*` the same with header and
    checksum, by the coder that this process uses.
    """
    shape = latents[0].shape
    contenders: dict[str, Callable[[], object]] = {}
    for backend in BACKENDS:
        contenders |= _codec_contenders(backend, latents, tables)
    payloads = [encode_payload(latent, codec="rans", width_index=0, tables=tables) for latent in latents]
    contenders["payload_encode"] = lambda: [
        encode_payload(latent, codec="rans", width_index=0, tables=tables) for latent in latents
    ]
    contenders["payload_decode"] = lambda: [
        decode_payload(data, tables=tables, max_latent_bytes=1 << 20, expect=(shape[0], shape[1], shape[2]))
        for data in payloads
    ]
    symbols = len(latents) * latents[0].size
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():  # the first run builds the lookup tables
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            started = time.perf_counter_ns()
            call()
            taken[name].append((time.perf_counter_ns() - started) / symbols)
    return {name: _spread(values) for name, values in taken.items()}


def _spread(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "first_quartile": low, "third_quartile": high, "min": min(values)}


def _codec_contenders(
    backend: Backend, latents: list[NDArray[np.uint8]], tables: FrequencyTables
) -> dict[str, Callable[[], object]]:
    codec = RansCodec(backend=backend)
    shape: Shape = (latents[0].shape[0], latents[0].shape[1], latents[0].shape[2])
    bodies = [codec.encode(latent, tables, 0) for latent in latents]
    for latent, body in zip(latents, bodies, strict=True):  # a wrong coder has no speed
        if not np.array_equal(codec.decode(body, shape, tables, 0), latent):
            raise AssertionError(f"rans ({backend}) does not give back what it coded")
    return {
        f"{backend}_encode": lambda: [codec.encode(latent, tables, 0) for latent in latents],
        f"{backend}_decode": lambda: [codec.decode(body, shape, tables, 0) for body in bodies],
    }


def _ratios(sizes: dict[str, float], timings: dict[str, Timing]) -> dict[str, float]:
    ratios = {
        "rans_body_over_table_entropy": sizes["rans_body"] / sizes["table_entropy"],
        "rans_payload_over_table_entropy": sizes["rans_payload"] / sizes["table_entropy"],
        "zlib9_over_rans_payload": sizes["zlib9_of_raw"] / sizes["rans_payload"],
        "bitshuffle_lz4_over_rans_body": sizes["bitshuffle_lz4_body"] / sizes["rans_body"],
    }
    if HAS_C:
        for way in ("encode", "decode"):
            slow, fast = timings[f"numpy_{way}"]["median"], timings[f"c_{way}"]["median"]
            ratios[f"numpy_over_c_{way}_time"] = slow / fast
    return ratios
