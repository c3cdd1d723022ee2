from collections.abc import Callable

import pytest

from isthmus.models.network import SplitNetwork
from isthmus.models.optimisers import make_optimiser
from isthmus.models.rate import LatentPrior
from isthmus.models.settings import TrainSettings


@pytest.mark.parametrize(("given", "wanted"), [(None, 2e-3), (1e-4, 1e-4), (0.0, 0.0)])
def test_stage_two_has_the_rate_that_is_given_for_it(
    make_network: Callable[..., SplitNetwork], given: float | None, wanted: float
) -> None:
    network = make_network()
    prior = LatentPrior(len(network.config.widths), network.config.channels)
    settings = TrainSettings(epochs=1, learning_rate=2e-3, answer_learning_rate=given)
    peaks = [
        make_optimiser(network, prior, settings, answers=answers).param_groups[0]["peak"]
        for answers in (False, True)
    ]
    assert peaks == [2e-3, wanted]
