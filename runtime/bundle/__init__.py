"""The bundle: the artifact that both ends load."""

from isthmus.runtime.bundle.manifest import SCHEMA_VERSION, InputSpec, LatentSpec, Manifest
from isthmus.runtime.bundle.points import DeviceAnswer, OperatingPoint, PointRecord, PointTable
from isthmus.runtime.bundle.store import (
    EXIT,
    GOLDEN,
    LOCAL,
    MANIFEST,
    POINTS,
    TABLES,
    TAIL,
    TAIL_ATEN,
    Bundle,
    head_name,
    load_bundle,
    write_manifest,
)

__all__ = [
    "EXIT",
    "GOLDEN",
    "LOCAL",
    "MANIFEST",
    "POINTS",
    "SCHEMA_VERSION",
    "TABLES",
    "TAIL",
    "TAIL_ATEN",
    "Bundle",
    "DeviceAnswer",
    "InputSpec",
    "LatentSpec",
    "Manifest",
    "OperatingPoint",
    "PointRecord",
    "PointTable",
    "head_name",
    "load_bundle",
    "write_manifest",
]
