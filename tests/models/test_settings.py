from typing import Any

import pytest

from isthmus.models.augment import Mixing
from isthmus.models.schedule import Schedule
from isthmus.models.settings import RateTerm, TrainSettings
from isthmus.runtime.errors import InputError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "0 epochs: give at least 1"),
        ({"average": 1.0}, "average 1: give a decay"),
        ({"views": 2, "mixing": Mixing(mixup=1.0), "label_weight": 1.0}, "views 2: what was mixed"),
        ({"quantisation": "none"}, "quantisation none has no rate to price"),
        ({"feature_weight": 0.0, "answer_weight": 0.0}, "nothing would be learned"),
        ({"level_weights": (0.0, 0.0, 1.0)}, "stage 1 would have nothing to learn"),
        ({"schedule": Schedule(features=1.5)}, "features 1.5: give a share of the run"),
    ],
)
def test_what_makes_no_sense_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainSettings(**{"epochs": 1, **changes})


def test_a_rate_term_is_a_price_or_a_target() -> None:
    assert RateTerm().active
    assert RateTerm(price=(0.0,), target_bits=((100.0,),)).active
    assert not RateTerm(price=(0.0,)).active


def test_the_features_weight_goes_from_its_start_to_its_end() -> None:
    settings = TrainSettings(
        epochs=1, feature_weight=1.0, feature_weight_end=0.2, schedule=Schedule(features=0.5)
    )
    found = [settings.feature_weight_at(progress) for progress in (0.5, 0.75, 1.0)]
    assert found == pytest.approx([1.0, 0.6, 0.2])
    assert TrainSettings(epochs=1).feature_weight_at(0.9) == 1.0


def test_what_is_not_random_rests_then_rises() -> None:
    settings = TrainSettings(epochs=1, start_delay=0.1, start_ramp=0.2)
    found = [settings.start_factor(progress) for progress in (0.0, 0.09, 0.2, 0.3, 1.0)]
    assert found == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
