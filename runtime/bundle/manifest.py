"""The schema of `manifest.json`: what a bundle declares about itself.

Decides what a well-formed manifest is. Knows nothing of files, digests of them are checked by `store`.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec

from isthmus.runtime.bundle.points import OperatingPoint
from isthmus.runtime.errors import BundleError

SCHEMA_VERSION = 1

Positive = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
# A plain relative path: no drive, no backslash, no leading slash; `..` is refused in `check`.
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}$")]


class InputSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The image a head takes: uint8 [1, height, width, channels]; normalisation is inside the head."""

    height: Positive
    width: Positive
    channels: Positive


class LatentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The latent a tail takes: uint8 [n, channels, height, width].

    `zero_points` has one value per channel; an absent channel is filled with its own.
    """

    channels: Positive
    height: Positive
    width: Positive
    zero_points: tuple[Byte, ...]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle declares.

    Attributes:
        schema_version: `SCHEMA_VERSION`; any other is refused.
        name: The model name on the wire.
        task: What the outputs mean.
        labels: Class names, index = class.
        widths: Compute fractions in (0, 1], ascending; the index is the width index on the wire.
        points: The operating points a policy may choose.
        codecs: Codec names, preferred first.
        table_id: First 8 bytes of the tables' SHA-256, in hex; every payload's checksum covers it.
        files: SHA-256 of every other file in the bundle, by relative path.
        provenance: Free text facts: versions, command, seeds, teacher digest.
        seal: SHA-256 of the manifest's own content, so that damage to it is noticed. Not a signature.
    """

    schema_version: int
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    task: Literal["classification"]
    labels: tuple[str, ...]
    input: InputSpec
    latent: LatentSpec
    widths: tuple[float, ...]
    points: tuple[OperatingPoint, ...]
    codecs: tuple[str, ...]
    table_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    files: dict[FileName, Sha256]
    provenance: dict[str, str] = {}
    seal: str = ""

    def sealed(self) -> Manifest:
        """Return the manifest with the seal that belongs to its content."""
        content = msgspec.json.encode(msgspec.structs.replace(self, seal=""))
        return msgspec.structs.replace(self, seal=hashlib.sha256(content).hexdigest())

    def check(self) -> None:
        """Check what the types cannot say.

        Raises:
            BundleError: If a field contradicts another.
        """
        if len(self.labels) < 2:
            raise BundleError(f"manifest.json: labels has {len(self.labels)} entries; at least 2 are needed")
        if not self.widths or list(self.widths) != sorted(set(self.widths)):
            raise BundleError(f"manifest.json: widths {self.widths} are not ascending and distinct")
        if not all(0.0 < width <= 1.0 for width in self.widths):
            raise BundleError(f"manifest.json: widths {self.widths} are not all in (0, 1]")
        if len(self.latent.zero_points) != self.latent.channels:
            raise BundleError(
                f"manifest.json: {len(self.latent.zero_points)} zero points, {self.latent.channels} channels"
            )
        if not self.points or len(set(self.points)) != len(self.points):
            raise BundleError("manifest.json: points is empty or lists a point twice")
        for point in self.points:
            if not 0 <= point.width_index < len(self.widths):
                raise BundleError(f"manifest.json: {point} names a width that widths does not list")
            if not 1 <= point.channels <= self.latent.channels:
                raise BundleError(f"manifest.json: {point} names more channels than the latent has")
        for name in self.files:
            if ".." in name.split("/") or "//" in name or name.endswith("/"):
                raise BundleError(f"manifest.json: file name {name!r} leaves the bundle")
