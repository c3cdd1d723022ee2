import math

import numpy as np
import pytest
import torch

from isthmus.models.evaluate import accuracy, entropy_bytes, evaluate
from isthmus.models.network import SplitNetwork
from isthmus.runtime.datasets import ImageSet


def test_entropy_of_known_codes() -> None:
    codes = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    codes[:, 1] = torch.tensor([[7, 7], [9, 9]], dtype=torch.uint8)
    codes[:, 2] = torch.arange(16, dtype=torch.uint8).reshape(4, 2, 2)
    # Nothing, one bit for each of 4 symbols, and 4 bits for each.
    assert entropy_bytes(codes) == pytest.approx([0.0, 0.5, 2.0])


def test_accuracy_counts_right_answers(quarters_test: ImageSet) -> None:
    class Oracle(torch.nn.Module):
        def forward(self, batch_nhwc: torch.Tensor) -> torch.Tensor:
            quarters = batch_nhwc.float().reshape(-1, 2, 8, 2, 8).mean((2, 4)).flatten(1)
            return quarters.roll(1, dims=1) if batch_nhwc[0, 0, 0, 0] % 2 > 1 else quarters

    assert accuracy(Oracle(), quarters_test) == 1.0
    wrong = ImageSet(
        images=quarters_test.images,
        labels=np.roll(quarters_test.labels, 1),
        classes=quarters_test.classes,
        name="wrong",
    )
    assert accuracy(Oracle(), wrong) == 0.0


def test_evaluation_lists_every_point_of_the_widths_asked_for(
    calibrated: SplitNetwork, quarters_test: ImageSet
) -> None:
    found = evaluate(calibrated, quarters_test, width_indices=[0, 3])
    assert [(point.width_index, point.channels) for point in found.points] == [
        (width, channels) for width in (0, 3) for channels in (1, 2, 4, 8)
    ]
    assert len(found.exits) == 2
    assert found.teacher > 0.95
    codes = calibrated.codes(torch.from_numpy(quarters_test.images), 3)
    assert math.isclose(found.points[-1].entropy_bytes, sum(entropy_bytes(codes)))
