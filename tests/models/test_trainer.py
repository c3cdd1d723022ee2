import math
from collections.abc import Callable

import pytest
import torch

from isthmus.models.network import SplitNetwork, tensor_digest
from isthmus.models.schedule import Schedule
from isthmus.models.settings import RateTerm, TrainSettings
from isthmus.models.trainer import BottleneckTrainer
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import GateError


@pytest.fixture
def batch(quarters: ImageSet) -> torch.Tensor:
    return torch.from_numpy(quarters.images[:20])


def _trainer(network: SplitNetwork, **settings: object) -> BottleneckTrainer:
    return BottleneckTrainer(network, TrainSettings(epochs=1, **settings))  # type: ignore[arg-type]


def test_stage_one_imitates_features_only(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    result = _trainer(make_network()).step(batch, 0.1)
    assert set(result.terms) == {"rate", "features0", "features1"}


def test_parameters_without_gradients_have_no_norm(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    # That of none would lie on the CPU, beside those on the device that trains.
    trainer = _trainer(make_network())
    trainer.step(batch, 0.1)
    assert len(trainer._clip()) == 1
    trainer.step(batch, 0.7)
    assert len(trainer._clip()) == 2


def test_stage_two_adds_answers_and_the_exit(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    result = _trainer(make_network()).step(batch, 0.7)
    assert set(result.terms) == {"rate", "features0", "features1", "answer", "exit"}
    without = _trainer(make_network(exit_channels=0)).step(batch, 0.7)
    assert "exit" not in without.terms


def test_a_cut_without_later_levels_trains_too(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    trainer = _trainer(make_network(cut="stage3"))
    assert set(trainer.step(batch, 0.1).terms) == {"rate", "features0"}
    assert set(trainer.step(batch, 0.7).terms) == {"rate", "features0", "answer", "exit"}


def test_every_loss_falls(make_network: Callable[..., SplitNetwork], quarters: ImageSet) -> None:
    trainer = _trainer(make_network(), learning_rate=5e-3)
    images = torch.from_numpy(quarters.images[:24])
    early = trainer.step(images, 0.55).terms
    for _ in range(40):
        late = trainer.step(images, 0.55).terms
    for name in ("features0", "features1", "answer", "exit"):
        assert late[name] < 0.8 * early[name], name


def test_teacher_and_frozen_tail_stay_as_they_are(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    network = make_network()
    before = tensor_digest(network.teacher)
    trainer = _trainer(network)
    for progress in (0.1, 0.6, 0.9):
        trainer.step(batch, progress)
    assert tensor_digest(network.teacher) == before


def test_a_tuned_tail_learns_in_stage_two_only(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    network = make_network(tail_tuned=True)
    teacher = tensor_digest(network.teacher)
    last = list(network.tail)[-1]
    before = tensor_digest(last)
    trainer = _trainer(network)
    trainer.step(batch, 0.1)
    assert tensor_digest(last) == before
    trainer.step(batch, 0.6)
    assert tensor_digest(last) != before
    assert tensor_digest(network.teacher) == teacher


def test_the_exit_does_not_bend_the_encoder(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    gradients = []
    for exit_channels in (8, 0):
        network = make_network(exit_channels=exit_channels)
        _trainer(network).step(batch, 0.55)
        gradients.append(network.encoder.project.weight.grad)
    assert gradients[0] is not None
    assert gradients[1] is not None
    # The exit's parameters follow the encoder's in construction, so both networks began alike.
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_dearer_bit_makes_a_smaller_latent(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    images = torch.from_numpy(quarters.images[:24])
    bits = []
    for price in (1e-9, 1e-2):
        trainer = _trainer(make_network(), rate=RateTerm(price=(price,)), learning_rate=5e-3)
        for _ in range(30):
            result = trainer.step(images, 0.3)
        bits.append(result.bits[3])
    assert bits[1] < 0.7 * bits[0]


@pytest.mark.parametrize(("target_bits", "direction"), [(1.0, 1), (1e9, -1)])
def test_the_price_of_the_widths_in_training_is_steered(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor, target_bits: float, direction: int
) -> None:
    trainer = _trainer(make_network(), rate=RateTerm(price=(1e-6,), target_bits=((target_bits,),)))
    for _ in range(5):
        trainer.step(batch, 0.3)
    assert trainer.price.prices[:3] == [trainer.price.prices[3]] * 3  # only the full width is trained yet
    assert trainer.price.prices[3][0] == pytest.approx(1e-6 * math.exp(direction * 5 * trainer.price.SPEED))
    trainer.step(batch, 0.9)
    assert (trainer.price.prices[0][0] - 1e-6) * direction > 0


def test_a_nan_stops_with_the_step_and_the_term(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    network = make_network()
    trainer = _trainer(network)
    trainer.step(batch, 0.1)
    with torch.no_grad():
        network.decoder.layers[0].weight[0, 0] = float("nan")  # type: ignore[operator, index]
    before = tensor_digest(network.encoder)
    message = (
        r"step 1: loss term 'features0' is nan; .* parameter 'decoder.layers.0.weight'; lower --learning-"
    )
    with pytest.raises(GateError, match=message):
        trainer.step(batch, 0.1)
    assert tensor_digest(network.encoder) == before


def test_a_gradient_that_is_not_finite_is_named(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    network = make_network()
    trainer = _trainer(network)
    network.quantiser.log_scale.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(GateError, match=r"step 0: the gradient of 'quantiser.log_scale' is not finite"):
        trainer.step(batch, 0.1)


def test_no_decay_on_affines_and_biases(make_network: Callable[..., SplitNetwork]) -> None:
    network = make_network(tail_tuned=True)
    trainer = _trainer(network, weight_decay=0.1)
    decayed = {
        id(value)
        for group in trainer.optimiser.param_groups
        for value in group["params"]
        if group["weight_decay"]
    }
    plain = {
        id(value)
        for group in trainer.optimiser.param_groups
        for value in group["params"]
        if not group["weight_decay"]
    }
    names = dict(network.named_parameters())
    assert id(names["encoder.stages.0.down.weight"]) in decayed
    for name in (
        "encoder.stages.0.norm.weight",
        "encoder.gain",
        "decoder.layers.0.bias",
        "quantiser.log_scale",
    ):
        assert id(names[name]) in plain
    trained = [value for value in network.parameters() if value.requires_grad]
    assert {id(value) for value in trained} <= decayed | plain


def test_bfloat16_trains_alike(make_network: Callable[..., SplitNetwork], quarters: ImageSet) -> None:
    images = torch.from_numpy(quarters.images[:24])
    losses = []
    for precision in ("float32", "bfloat16"):
        trainer = _trainer(
            make_network(), precision=precision, learning_rate=5e-3, schedule=Schedule(full_width=1)
        )
        for _ in range(10):
            result = trainer.step(images, 0.55)
        losses.append(result.terms["features0"])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_an_activation_that_is_not_finite_is_named(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    network = make_network()
    trainer = _trainer(network)
    trainer.step(batch, 0.1)
    # All parameters are finite; what comes out of this convolution is not.
    network.decoder.layers[0].register_forward_hook(lambda _module, _inputs, output: output * float("inf"))
    message = r"step 1: loss term 'features0' is (nan|inf); .* activation of 'decoder\.layers\.0'; lower --"
    with pytest.raises(GateError, match=message):
        trainer.step(batch, 0.1)


def test_a_prior_that_is_not_finite_is_named(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    trainer = _trainer(make_network())
    with torch.no_grad():
        trainer.prior.location[3, 0] = float("nan")
    with pytest.raises(GateError, match=r"loss term 'rate' is nan; .* parameter 'location'"):
        trainer.step(batch, 0.1)


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
def test_what_is_not_random_rests_at_first(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor, optimiser: str
) -> None:
    network = make_network()
    settings = TrainSettings(
        epochs=1, start_delay=0.5, start_rate=0.1, optimiser=optimiser, schedule=Schedule(warm_up=0.0)
    )  # type: ignore[arg-type]
    trainer = BottleneckTrainer(network, settings, started=["encoder.project.weight"])
    rested, moved = network.encoder.project.weight, network.encoder.gain
    before = rested.detach().clone(), moved.detach().clone()
    trainer.step(batch, 0.1)
    assert torch.equal(rested, before[0])
    assert not torch.equal(moved, before[1])
    trainer.step(batch, 0.6)
    assert not torch.equal(rested, before[0])
    rates = {round(group["lr"], 9) for group in trainer.optimiser.param_groups if group["rests"]}
    assert rates == {round(0.1 * trainer.optimiser.param_groups[0]["lr"], 9)}
