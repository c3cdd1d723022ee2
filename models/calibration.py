"""Statistics that are measured once, after training, and without which nothing may be evaluated.

A module derives from `Calibrated`; inside `calibration` it measures what runs through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from isthmus.runtime.errors import GateError


class Calibrated(nn.Module):
    """A module with measured statistics, per width where they depend on it."""

    batches: Tensor

    def __init__(self, widths: int, statistics: str) -> None:
        """Take the number of widths and what the statistics are called in an error."""
        super().__init__()
        self.calibrating, self._statistics = False, statistics
        self.register_buffer("batches", torch.zeros(widths, dtype=torch.int64))

    def check_calibrated(self, width_index: int) -> None:
        """Refuse to go on with statistics that were never measured.

        Raises:
            GateError: If they were not.
        """
        if int(self.batches[width_index]) == 0:
            raise GateError(
                f"width index {width_index} has no {self._statistics}; "
                "calibrate the network before it is evaluated"
            )


def calibrated_parts(module: nn.Module) -> list[Calibrated]:
    """Return what `calibration` of `module` would measure."""
    return [part for part in module.modules() if isinstance(part, Calibrated)]


@contextmanager
def calibration(module: nn.Module) -> Iterator[None]:
    """Forget the statistics of every `Calibrated` in `module`; measure them anew on what runs inside."""
    parts = calibrated_parts(module)
    for part in parts:
        part.batches.zero_()
        part.calibrating = True
    try:
        yield
    finally:
        for part in parts:
            part.calibrating = False
