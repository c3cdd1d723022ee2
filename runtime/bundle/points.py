"""Operating points and the measured table of what each is worth and costs."""

from __future__ import annotations

import msgspec

from isthmus.runtime.errors import BundleError


class OperatingPoint(msgspec.Struct, frozen=True, order=True):
    """One way to encode a frame.

    `width_index` picks the head (compute), `channels` the leading latent channels that are sent (bytes).
    """

    width_index: int
    channels: int


class PointRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operating point is worth and costs, measured on the exported files.

    Attributes:
        utility: Accuracy in [0, 1] over the held-out images named by `PointTable.measured_on`.
        bytes_mean, bytes_p95, bytes_max: Payload bytes, header included.
        head_s: Median seconds of one image through the exported head, on the host `PointTable.host`.
        energy_j: Joules per frame on the device, or None where no meter was present.
    """

    point: OperatingPoint
    utility: float
    bytes_mean: float
    bytes_p95: float
    bytes_max: int
    head_s: float
    energy_j: float | None = None


class DeviceAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer the device can give alone: `exit` (from a latent) or `local` (from the image).

    Attributes:
        utility: Accuracy in [0, 1] on the same images as the points.
        compute_s: Median seconds on `PointTable.host`; for an exit, beyond the head.
        width_index: The head whose latent feeds the exit; None for `local`.
    """

    utility: float
    compute_s: float
    width_index: int | None = None


class PointTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The measured table of a bundle (`points.json`), which every policy reads.

    Attributes:
        measured_on: The data set and the number of images, as text.
        host: CPU and threads the times were measured on.
        teacher_utility: Accuracy of the uncut network on the same images.
        records: One record per operating point of the manifest, in its order.
        exits: Early exits, one per width that has one (all share exit.onnx).
        local: The whole network on the device, if the bundle carries it.
        tail_s: Median seconds of one latent through the tail on `host`.
    """

    measured_on: str
    host: str
    teacher_utility: float
    records: tuple[PointRecord, ...]
    exits: tuple[DeviceAnswer, ...] = ()
    local: DeviceAnswer | None = None
    tail_s: float | None = None

    def record(self, point: OperatingPoint) -> PointRecord:
        """Return the record of `point`.

        Raises:
            BundleError: If the table does not list it.
        """
        for record in self.records:
            if record.point == point:
                return record
        raise BundleError(f"points.json has no operating point {point}; export the bundle again")
