"""Every frame is answered on the device: the baseline without a network."""

from __future__ import annotations

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.device_answer import DeviceAnswers
from isthmus.runtime.control.types import Decision, DeviceState, LinkEstimate
from isthmus.runtime.errors import InputError


class LocalPolicy:
    """Answers every frame on the device."""

    name = "local"

    def __init__(self, points: PointTable) -> None:
        """Use the best of the device's own answers.

        Raises:
            InputError: If the bundle carries none.
        """
        if points.local is None and not points.exits:
            raise InputError("policy 'local': the bundle has neither local.onnx nor exit.onnx; export one")
        self._answers = DeviceAnswers(points)

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        """Return what to do with the frame at hand; see `Policy.decide`."""
        return self._answers.decide(device, budget_s, "policy local")
