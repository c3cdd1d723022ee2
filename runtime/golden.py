"""Golden vectors: what every machine must reproduce from a bundle, and the check that it does.

`golden/golden.npz` holds a few images and what the exporting machine made of them. Bytes must agree
exactly: a payload that another coder writes differently cannot be trusted. Floating point may not: heads
may differ by one level in a few symbols, outputs by a small part of their range.

Arrays: `images_nhwc`; per width index W `latents_W` (all channels), `exit_W`; per operating point of C
channels `outputs_W_C`, and per codec `CODEC_W_C` (the payloads of all images, joined) with
`CODEC_W_C_lengths`; `local`.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import (
    EXIT,
    GOLDEN,
    LOCAL,
    TABLES,
    Bundle,
    Manifest,
    OperatingPoint,
)
from isthmus.runtime.bundle.networks import BundleNetworks, open_networks, with_absent
from isthmus.runtime.codecs import FrequencyTables, coder_backend, decode_payload, encode_payload
from isthmus.runtime.errors import BundleError, PayloadError

# Codecs whose bytes are ours to define; LZ4's may change with its library.
EXACT_CODECS = ("rans", "raw")
_MAX_LEVELS = 1
_MAX_SHARE = 0.01
_OUTPUT_TOLERANCE = 1e-3

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenReport:
    """What was reproduced.

    Attributes:
        images: Golden images.
        payloads: Payloads encoded and decoded bit for bit.
        coder: Which implementation of `rans` did it.
        symbols_off: Largest share of a head's symbols that differ (by one level).
        output_error: Largest difference of an output, relative to the largest value of its array.
    """

    images: int
    payloads: int
    coder: str
    symbols_off: float
    output_error: float


def write_golden(
    root: Path, manifest: Manifest, tables: FrequencyTables, images_nhwc: NDArray[np.uint8]
) -> None:
    """Write the golden vectors of the bundle under construction in `root`.

    Raises:
        BundleError: If one of its networks cannot run.
    """
    present = [name for name in (EXIT, LOCAL) if (root / name).is_file()]
    networks = open_networks(manifest, present, lambda name: (root / name).read_bytes(), threads=1)
    arrays: Arrays = {"images_nhwc": images_nhwc}
    for width_index in range(len(manifest.widths)):
        arrays[f"latents_{width_index}"] = networks.heads[width_index].run(images_nhwc)
    for point in manifest.points:
        latents = arrays[f"latents_{point.width_index}"]
        for codec in EXACT_CODECS:
            payloads = _encode(latents, point, codec, tables)
            name = f"{codec}_{point.width_index}_{point.channels}"
            arrays[name] = np.frombuffer(b"".join(payloads), dtype=np.uint8)
            arrays[f"{name}_lengths"] = np.array([len(payload) for payload in payloads], dtype=np.int64)
    arrays.update(_outputs(networks, manifest, arrays))
    file = root / GOLDEN
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]


def golden_images(bundle: Bundle) -> NDArray[np.uint8]:
    """Return the images of `bundle`'s golden vectors, uint8 [n, height, width, channels].

    Raises:
        BundleError: If they cannot be read.
    """
    file = bundle.root / GOLDEN
    images: NDArray[np.uint8] = _array(_read(bundle.read(GOLDEN), file), "images_nhwc", file)
    return images


def verify(bundle: Bundle) -> GoldenReport:
    """Reproduce the golden vectors of `bundle` on this machine.

    Raises:
        BundleError: If a payload differs in any bit, a head or an output by more than rounding explains, or
            the vectors do not belong to the bundle.
    """
    manifest, file = bundle.manifest, bundle.root / GOLDEN
    tables = FrequencyTables.from_bytes(bundle.read(TABLES), source=str(bundle.root / TABLES))
    if tables.table_id != manifest.table_id:
        raise BundleError(
            f"{bundle.root / TABLES}: id {tables.table_id}, manifest.json names {manifest.table_id}; "
            "export the bundle again"
        )
    golden = _read(bundle.read(GOLDEN), file)
    networks = open_networks(manifest, manifest.files, bundle.read, threads=1)
    images = _array(golden, "images_nhwc", file)
    symbols_off = 0.0
    for width_index, head in enumerate(networks.heads):
        latents = head.run(images)
        share = _symbols_off(latents, _array(golden, f"latents_{width_index}", file), bundle.root / head.name)
        symbols_off = max(symbols_off, share)
    payloads = sum(_verify_payloads(golden, point, manifest, tables, file) for point in manifest.points)
    # From the stored latents: what a tail makes of them does not depend on this machine's heads.
    errors = [
        _output_error(value, _array(golden, name, file), name, file)
        for name, value in _outputs(networks, manifest, golden).items()
    ]
    return GoldenReport(
        images=len(images),
        payloads=payloads,
        coder=coder_backend(),
        symbols_off=symbols_off,
        output_error=max(errors),
    )


def _outputs(networks: BundleNetworks, manifest: Manifest, arrays: Arrays) -> Arrays:
    """Return every output array, from the images and latents in `arrays`."""
    found: Arrays = {}
    for point in manifest.points:
        latents = arrays[f"latents_{point.width_index}"]
        absent = with_absent(latents, point.channels, manifest.latent.zero_points)
        found[f"outputs_{point.width_index}_{point.channels}"] = networks.tail.run(absent)
    if networks.exit is not None:
        for width_index in range(len(manifest.widths)):
            found[f"exit_{width_index}"] = networks.exit.run(arrays[f"latents_{width_index}"])
    if networks.local is not None:
        found["local"] = networks.local.run(arrays["images_nhwc"])
    return found


def _encode(
    latents_nchw: NDArray[np.uint8], point: OperatingPoint, codec: str, tables: FrequencyTables
) -> list[bytes]:
    return [
        encode_payload(latent[: point.channels], codec=codec, width_index=point.width_index, tables=tables)
        for latent in latents_nchw
    ]


def _verify_payloads(
    golden: Arrays, point: OperatingPoint, manifest: Manifest, tables: FrequencyTables, file: Path
) -> int:
    """Encode and decode every image at `point` with every exact codec; return how many payloads that were."""
    latents = _array(golden, f"latents_{point.width_index}", file)
    shape = (manifest.latent.channels, manifest.latent.height, manifest.latent.width)
    count = 0
    for codec in EXACT_CODECS:
        name = f"{codec}_{point.width_index}_{point.channels}"
        joined, lengths = _array(golden, name, file).tobytes(), _array(golden, f"{name}_lengths", file)
        encoded = _encode(latents, point, codec, tables)
        remedy = (
            f"coder {coder_backend()!r} is not to be trusted here; try ISTHMUS_RANS=numpy, and report this"
        )
        if [len(payload) for payload in encoded] != lengths.tolist() or b"".join(encoded) != joined:
            raise BundleError(f"{file}: {codec} encodes {name} to other bytes; {remedy}")
        for payload, latent in zip(encoded, latents, strict=True):
            try:
                decoded = decode_payload(payload, tables=tables, max_latent_bytes=latent.size, expect=shape)
            except PayloadError as error:
                raise BundleError(
                    f"{file}: {codec} cannot decode its own {name} ({error}); {remedy}"
                ) from None
            if not np.array_equal(decoded.latent_chw, latent[: point.channels]):
                raise BundleError(f"{file}: {codec} decodes {name} to other symbols; {remedy}")
            count += 1
    return count


def _symbols_off(latents: NDArray[np.uint8], expected: NDArray[Any], file: Path) -> float:
    if latents.shape != expected.shape or latents.dtype != expected.dtype:
        raise BundleError(
            f"{file}: gives {latents.dtype} {latents.shape}, the golden latents are {expected.dtype} "
            f"{expected.shape}; export the bundle again"
        )
    levels = np.abs(latents.astype(np.int16) - expected.astype(np.int16))
    share = float((levels > 0).mean())
    if levels.max() > _MAX_LEVELS or share > _MAX_SHARE:
        raise BundleError(
            f"{file}: {share:.2%} of the golden symbols differ, by up to {levels.max()} levels (allowed: "
            f"{_MAX_SHARE:.0%} by {_MAX_LEVELS}); this ONNX Runtime computes otherwise, try another version"
        )
    return share


def _output_error(value: NDArray[Any], expected: NDArray[Any], name: str, file: Path) -> float:
    if value.shape != expected.shape:
        raise BundleError(
            f"{file}: {name} is {expected.shape}, the network gives {value.shape}; export again"
        )
    error = float(np.abs(value - expected).max() / max(float(np.abs(expected).max()), 1e-6))
    if not error <= _OUTPUT_TOLERANCE:
        raise BundleError(
            f"{file}: {name} differs by {error:.2g} of its range (allowed: {_OUTPUT_TOLERANCE}); "
            "this ONNX Runtime computes otherwise, try another version"
        )
    return error


def _read(data: bytes, file: Path) -> Arrays:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise BundleError(f"{file}: not a golden archive ({error}); export the bundle again") from None


def _array(golden: Arrays, name: str, file: Path) -> NDArray[Any]:
    if name not in golden:
        raise BundleError(f"{file}: lacks {name}; export the bundle again")
    return golden[name]
