import dataclasses
import math

import pytest
import torch

from isthmus.models.evaluate import entropy_bytes, evaluate
from isthmus.models.network import SplitNetwork
from isthmus.runtime.datasets import ImageSet


def test_entropy_of_known_codes() -> None:
    codes = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    codes[:, 1] = torch.tensor([[7, 7], [9, 9]], dtype=torch.uint8)
    codes[:, 2] = torch.arange(16, dtype=torch.uint8).reshape(4, 2, 2)
    # Nothing, one bit for each of 4 symbols, and 4 bits for each.
    assert entropy_bytes(codes) == pytest.approx([0.0, 0.5, 2.0])


def test_evaluation_lists_every_point(calibrated: SplitNetwork, quarters_test: ImageSet) -> None:
    found = evaluate(calibrated, quarters_test)
    assert [(point.width_index, point.channels) for point in found.points] == [
        (width, channels) for width in range(4) for channels in (1, 2, 4, 8)
    ]
    assert len(found.exits) == 4
    assert found.teacher > 0.95
    codes = calibrated.codes(torch.from_numpy(quarters_test.images), 3)
    assert math.isclose(found.points[-1].entropy_bytes, sum(entropy_bytes(codes)))


def test_accuracy_is_against_the_labels_and_agreement_against_the_uncut_network(
    calibrated: SplitNetwork, quarters_test: ImageSet
) -> None:
    right = evaluate(calibrated, quarters_test)
    moved = dataclasses.replace(quarters_test, labels=(quarters_test.labels + 1) % 4)
    wrong = evaluate(calibrated, moved)
    assert wrong.teacher < 0.05
    assert [point.agreement for point in wrong.points] == [point.agreement for point in right.points]
    logits = calibrated.logits(calibrated.codes(torch.from_numpy(quarters_test.images), 3), 8)
    found = (logits.argmax(1).numpy() == moved.labels).mean()
    assert math.isclose(wrong.points[-1].accuracy, found)
