import contextlib
import math
from collections.abc import Callable

import pytest
import torch

from isthmus.models.augment import Augmentation, Mixing
from isthmus.models.network import SplitNetwork
from isthmus.models.objective import Objective
from isthmus.models.schedule import NestedDropout, Schedule
from isthmus.models.settings import RateTerm, TrainSettings
from isthmus.models.train_input import check_input
from isthmus.models.trainer import BottleneckTrainer
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import InputError


@pytest.fixture
def batch(quarters: ImageSet) -> torch.Tensor:
    return torch.from_numpy(quarters.images[:20])


def _trainer(network: SplitNetwork, **settings: object) -> BottleneckTrainer:
    return BottleneckTrainer(network, TrainSettings(epochs=1, **settings))  # type: ignore[arg-type]


def test_a_whole_sandwich_trains_every_width_on_the_batch(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    network = make_network()
    seen: list[tuple[int, int]] = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[1], len(inputs[0]))))
    schedule = Schedule(full_width=0.0, sandwich="whole", random_widths=2)
    result = _trainer(network, schedule=schedule, label_weight=0.5, mixing=Mixing(mixup=1.0)).step(
        batch, 0.9, labels=torch.arange(20) % 4
    )
    assert [width for width, _ in seen][:2] == [3, 0]
    assert sorted(seen) == [(width, 20) for width in range(4)]
    assert set(result.bits) == {0, 1, 2, 3}
    assert "labels" in result.terms


def test_labels_are_learned_only_if_they_weigh(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    images, labels = torch.from_numpy(quarters.images[:24]), torch.from_numpy(quarters.labels[:24])
    swapped = (labels + 1) % 4
    trainer = _trainer(make_network(), learning_rate=1e-2, label_weight=5.0, answer_weight=0.0)
    for _ in range(60):
        result = trainer.step(images, 0.55, labels=swapped)
    assert result.terms["labels"] / 5.0 < 0.7 * math.log(4)  # against what the teacher says
    assert "labels" not in _trainer(make_network()).step(images, 0.55, labels=swapped).terms


def test_in_place_the_narrow_widths_follow_the_wide(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    terms = []
    for in_place in (False, True):
        trainer = _trainer(make_network(), in_place=in_place, schedule=Schedule(full_width=0.0), nested=None)
        terms.append(trainer.step(batch, 0.9).terms)
    assert terms[0]["features0"] == terms[1]["features0"]
    # Untrained widths answer alike, and not like the teacher.
    assert terms[1]["answer"] < 0.8 * terms[0]["answer"]


def test_without_nested_dropout_all_channels_are_always_sent(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    for nested, dropped in ((None, False), (NestedDropout(full=0.0, offered=1.0), True)):
        network = make_network()
        seen: list[torch.Tensor] = []
        network.decoder.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        _trainer(network, nested=nested, quantisation="none", rate=RateTerm(price=(0.0,))).step(batch, 0.1)
        assert bool((seen[0] == 0).all(dim=(2, 3)).any()) is dropped


def test_short_prefixes_weigh_less_in_the_answer(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    nested = NestedDropout(full=0.0, offered=1.0, shares=(1.0, 0.0, 0.0, 0.0))  # 1 of 8 channels, always
    answers = [
        _trainer(make_network(), prefix_power=power, nested=nested).step(batch, 0.9).terms["answer"]
        for power in (0.0, 1.0)
    ]
    assert answers[1] == pytest.approx(answers[0] / 8, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        # As many shares as channel counts: more would draw a count that is not there, fewer never the last.
        (
            {"nested": NestedDropout(shares=(0.2,) * 5)},
            r"count_shares .*: 5 for the channel counts \(1, 2, 4, 8\)",
        ),
        ({"nested": NestedDropout(shares=(0.5, 0.5))}, "give 4, or none"),
        (
            {"nested": NestedDropout(shares=(0.0,) * 4)},
            "count_shares 0,0,0,0: give none below 0, and one above",
        ),
        ({"nested": NestedDropout(shares=(-1.0, 1.0, 1.0, 1.0))}, "give none below 0, and one above"),
        (
            {"rate": RateTerm(target_bits=((80.0, 160.0, 240.0, 320.0), (400.0,)))},
            "target_bytes 10/20/30/40,50: give each width one, or each of them 4",
        ),
        ({"rate": RateTerm(target_bits=((80.0, 160.0),))}, "target_bytes 10/20: give each width one"),
    ],
)
def test_lists_that_do_not_fit_the_bottleneck_are_one_line(
    make_network: Callable[..., SplitNetwork],
    quarters: ImageSet,
    settings: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        check_input(
            make_network(widths=(0.5, 1.0)),
            quarters,
            TrainSettings(epochs=1, **settings),  # type: ignore[arg-type]
            None,
        )


def test_levels_have_their_own_weights(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    plain = _trainer(make_network()).step(batch, 0.9).terms
    weighed = _trainer(make_network(), level_weights=(0.5, 0.0)).step(batch, 0.9).terms
    assert weighed["features0"] == pytest.approx(0.5 * plain["features0"])
    assert "features1" not in weighed


def test_everything_lands_on_the_networks_device(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The meta device computes nothing but refuses tensors of another device, as a GPU would.
    make = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": make())
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    network = make_network().to("meta")
    for recall in (None, lambda wanted: _targets(network, wanted)):
        settings = TrainSettings(
            epochs=1,
            rate=RateTerm(price=(0.0,)),
            label_weight=1.0,
            in_place=True,
            mixing=Mixing(mixup=0.5, cutmix=0.5),
            augmentation=Augmentation(shift=1, flip=True, jitter=0.1),
            schedule=Schedule(full_width=0.0),
        )
        objective = Objective(network, settings, make().manual_seed(0))
        found = objective(
            batch.to("meta"), 0.9, labels=torch.zeros(20, dtype=torch.int64).to("meta"), recall=recall
        )
        assert {term.device.type for term in found.terms.values()} == {"meta"}


def _targets(network: SplitNetwork, wanted: int) -> list[torch.Tensor]:
    targets = [torch.zeros(20, 1, 16, 16, device="meta")]
    for segment in [network.teacher_head, *network.teacher_tail][:wanted]:
        targets.append(segment(targets[-1]))
    return targets[1:]


def test_compilation_reaches_every_part_and_changes_no_name(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    network = make_network(tail_tuned=True)
    names = list(network.state_dict())
    trainer = _trainer(network, compiled=True)
    assert {id(network.encoder), id(network.decoder), id(network.tail[0])} <= {id(part) for part in compiled}
    trainer.step(batch, 0.9)
    assert list(network.state_dict()) == names
