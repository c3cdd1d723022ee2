"""Write and load a bundle directory; refuse what cannot be verified.

A bundle is data: nothing in it is executed or unpickled. Every file is read through `Bundle.read`, which
compares its SHA-256 with the manifest's at that moment, so that a file altered after loading is refused as
well.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.runtime.bundle.manifest import SCHEMA_VERSION, Manifest
from isthmus.runtime.bundle.points import PointTable
from isthmus.runtime.errors import BundleError

MANIFEST = "manifest.json"
POINTS = "points.json"
TAIL = "tail.onnx"
# Optional: the tail for a server's torch backend, operators and tensors as data.
TAIL_ATEN = "tail.aten.npz"
EXIT = "exit.onnx"
LOCAL = "local.onnx"
TABLES = "tables.npz"
GOLDEN = "golden/golden.npz"

# A file larger than this in a bundle is a mistake or an attack on the device's memory.
MAX_FILE_BYTES = 2 << 30


def head_name(width: float) -> str:
    """Return the file of the head of `width`, e.g. `heads/w025.onnx`."""
    return f"heads/w{round(width * 100):03d}.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle.

    Attributes:
        root: The directory.
        manifest: What it declares.
        points: Its measured table.
        digest: SHA-256 of manifest.json in hex; it names the bundle's exact content.
    """

    root: Path
    manifest: Manifest
    points: PointTable
    digest: str

    def has(self, name: str) -> bool:
        """Say whether the bundle lists the file `name`."""
        return name in self.manifest.files

    def read(self, name: str) -> bytes:
        """Return the bytes of the file `name`, verified against the manifest.

        Raises:
            BundleError: If the file is not listed, missing, or its digest differs.
        """
        return _read_verified(self.root, name, self.manifest.files.get(name))

    def head(self, width_index: int) -> bytes:
        """Return the verified ONNX bytes of the head of `width_index`."""
        return self.read(head_name(self.manifest.widths[width_index]))


def load_bundle(root: str | os.PathLike[str]) -> Bundle:
    """Load the bundle in the directory `root` and verify every file of it.

    Raises:
        BundleError: If the directory, the schema, a required file or a digest is not as it must be.
    """
    path = Path(root)
    if not path.is_dir():
        raise BundleError(f"{path}: no such bundle directory; make one with 'isthmus export'")
    manifest_path = path / MANIFEST
    raw = _read(manifest_path, "a bundle has a manifest.json; make one with 'isthmus export'")
    manifest = _decode_manifest(raw, manifest_path)
    required = [head_name(width) for width in manifest.widths] + [TAIL, TABLES, POINTS, GOLDEN]
    for name in required:
        if name not in manifest.files:
            raise BundleError(f"{manifest_path}: does not list {name}; export the bundle again")
    for name in manifest.files:
        _read_verified(path, name, manifest.files[name])
    points = _decode_points(_read_verified(path, POINTS, manifest.files[POINTS]), path / POINTS, manifest)
    return Bundle(root=path, manifest=manifest, points=points, digest=hashlib.sha256(raw).hexdigest())


def write_manifest(root: Path, manifest: Manifest) -> Manifest:
    """Fill in the digests of all files below `root` and write manifest.json last, atomically.

    Returns:
        The manifest as written.

    Raises:
        BundleError: If the manifest contradicts itself.
    """
    files = {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    complete = msgspec.structs.replace(manifest, files=files).sealed()
    complete.check()
    text = msgspec.json.format(msgspec.json.encode(complete), indent=2)
    partial = root / (MANIFEST + ".partial")
    partial.write_bytes(text + b"\n")
    partial.replace(root / MANIFEST)
    return complete


def _decode_manifest(raw: bytes, path: Path) -> Manifest:
    try:
        version = msgspec.json.decode(raw, type=dict[str, object]).get("schema_version")
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{path}: schema version {version!r}, this Isthmus reads {SCHEMA_VERSION}; export again"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a valid manifest: {error}") from None
    manifest.check()
    if manifest.seal != manifest.sealed().seal:
        raise BundleError(f"{path}: does not match its own seal, the file was altered; copy the bundle again")
    return manifest


def _decode_points(raw: bytes, path: Path, manifest: Manifest) -> PointTable:
    try:
        table = msgspec.json.decode(raw, type=PointTable)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a valid table of points: {error}") from None
    if tuple(record.point for record in table.records) != manifest.points:
        raise BundleError(f"{path}: its points are not those of manifest.json; export the bundle again")
    return table


def _read_verified(root: Path, name: str, digest: str | None) -> bytes:
    path = root / name
    if digest is None:
        raise BundleError(f"{path}: not part of this bundle")
    data = _read(path, "the manifest lists it; copy the bundle again")
    if hashlib.sha256(data).hexdigest() != digest:
        raise BundleError(f"{path}: SHA-256 differs from manifest.json, the file was altered; copy it again")
    return data


def _read(path: Path, remedy: str) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BundleError(f"{path}: {path.stat().st_size} bytes, at most {MAX_FILE_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; {remedy}") from None
