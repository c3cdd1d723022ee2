import torch
from torch import nn

from isthmus.models.averaging import WeightAverage


def _weight(value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((2,), value))


def test_the_average_follows_by_its_decay() -> None:
    weight = _weight(0.0)
    average = WeightAverage({"w": weight}, decay=0.5)
    with torch.no_grad():
        weight.fill_(1.0)
    for _ in range(12):
        average.update()
    with average.applied():
        late = weight.tolist()[0]
    assert 0.9 < late < 1.0
    assert weight.tolist() == [1.0, 1.0]  # back in place


def test_a_young_average_forgets_where_it_began() -> None:
    weight = _weight(0.0)
    average = WeightAverage({"w": weight}, decay=0.9999)
    with torch.no_grad():
        weight.fill_(1.0)
    average.update()
    average.apply()
    assert weight.tolist()[0] > 0.9


def test_a_resumed_average_is_the_same() -> None:
    weight, other = _weight(0.0), _weight(5.0)
    average, resumed = WeightAverage({"w": weight}, 0.9), WeightAverage({"w": other}, 0.9)
    with torch.no_grad():
        weight.fill_(1.0)
    average.update()
    resumed.restore(average.state())
    average.apply()
    resumed.apply()
    assert torch.equal(weight, other)
