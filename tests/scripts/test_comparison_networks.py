"""What `scripts/train-comparison` compares: one course for all, and what each method is made of."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from isthmus.cli.bench import benchmark_folder, load_benchmark
from isthmus.models.backbones import make_model
from isthmus.models.design import design
from isthmus.models.option_layers import converted, to_toml, tomllib
from isthmus.models.train_options import OPTIONS

SCRIPTS = Path(__file__).parents[2] / "scripts"
CIFAR = str(SCRIPTS / "comparison-cifar10-resnet56.toml")


@pytest.fixture(scope="module")
def networks(load_script) -> ModuleType:
    return load_script("comparison_networks")


def _all(networks, recipe=CIFAR, ablations=True):
    every = networks.contenders(recipe, epochs=3, seed=5, ablations=ablations, without_half=600)
    return {one.name: one.settings for one in every}


def test_every_network_sees_the_same_images_by_the_same_course(networks):
    alike = (
        "epochs",
        "views",
        "seed",
        "batch_size",
        "learning_rate",
        "tail_learning_rate",
        "tune_tail",
        "cut",
    )
    found = _all(networks)
    total, half = found.pop("slim-total"), found.pop("ablation/half-images")
    assert (total["epochs"], total["views"]) == (4 * 3, 0)
    assert half == {**total, "epochs": 2 * 4 * 3, "validation": 600}, "half the images, as many steps"
    assert len(found) == 17
    assert {tuple(settings.get(name) for name in alike) for settings in found.values()} == {
        (3, 3, 5, 64, 2e-3, 1e-4, True, "layer3.0")
    }


@pytest.mark.parametrize("recipe", [CIFAR, "imagenette-mobilenetv2"])
def test_settings_are_known_and_survive_their_file(networks, recipe):
    for settings in _all(networks, recipe).values():
        assert tomllib.loads(to_toml(settings)) == {k: v for k, v in settings.items() if v is not None}
        assert all(name in OPTIONS and converted(name, value) is not None for name, value in settings.items())


def test_a_method_has_nothing_of_ours(networks):
    for name, settings in _all(networks).items():
        if name.startswith(("bottlefit", "entropic", "ensemble")):
            assert not {"start", "linear_start", "target_bytes", "structure", "widths"} & set(settings)
            assert "rate_price" in settings


def test_an_ablation_changes_one_thing(networks):
    found = _all(networks)
    ours = dict(found["slim-short"])
    changed = {
        name.partition("/")[2]: {key for key in {*ours, *own} if ours.get(key) != own.get(key)}
        for name, own in found.items()
        if name.startswith("ablation") and name != networks.HALF
    }
    assert changed == {
        "no-nested-dropout": {"nested_dropout"},
        "no-rate-term": {"target_bytes", "rate_price"},
        "delayed-shrinking": {"full_width_share"},
        "alpha-divergence": {"answer_loss"},
    }


def test_the_benchmark_knows_every_ablation(networks):
    load_benchmark(benchmark_folder(), "rate_accuracy")
    known = {f"ablation/{name}" for name in sys.modules["_rate.places"].ABLATIONS}
    assert known == {name for name in _all(networks) if name.startswith("ablation/")} | {
        networks.UNCALIBRATED
    }


@pytest.mark.parametrize(
    ("recipe", "side", "cut_chw", "stages"),
    [
        (CIFAR, 32, (64, 8, 8), ((48, 1), (96, 1))),
        ("imagenette-mobilenetv2", 224, (96, 14, 14), ((48, 1), (96, 1), (192, 1))),
    ],
)
def test_the_ensemble_has_the_plane_of_our_latent(networks, recipe, side, cut_chw, stages):
    from isthmus.cli._train_flags import bottleneck_size
    from isthmus.models.cutting import CutSite
    from isthmus.models.families import family_named
    from isthmus.models.option_layers import with_defaults

    found = _all(networks, recipe)
    site = CutSite(name="cut", shape_chw=cut_chw)

    def layout(name):
        size = bottleneck_size(with_defaults(found[name]))
        family = family_named(size.family)
        assert family.fits(site, (side, side, 3), size)
        return family.layout(site, (side, side, 3), size)

    ours, ensemble = layout("slim-short"), layout("ensemble")
    assert (ensemble.latent_height, ensemble.latent_width) == (ours.latent_height, ours.latent_width)
    assert ensemble.encoder_stages == stages
    # Of each value four bits, a channel each.
    assert ensemble.channels == 4 * ours.channels
    assert found["ensemble"]["full_width_share"] == found["slim-short"]["full_width_share"]


def test_a_dedicated_network_has_the_layers_of_its_width(networks):
    from isthmus.cli._train_flags import bottleneck_size
    from isthmus.models.network import SplitNetwork
    from isthmus.models.option_layers import with_defaults

    found, teacher = _all(networks), make_model("cifar-resnet56", 10, 3)

    def encoder(name):
        size = bottleneck_size(with_defaults(found[name]))
        labels = tuple("abcdefghij")
        config = design(
            "cifar-resnet56", teacher, cut="layer3.0", shape_hwc=(32, 32, 3), labels=labels, size=size
        )
        return SplitNetwork(config, teacher).encoder

    shared = encoder("slim-short")
    for index, name in enumerate(("w025", "w050", "w075", "w100")):
        alone = encoder(f"dedicated/{name}")
        width = [layer for at, layer in enumerate(shared.layers) if at not in shared.skipped[index]]
        assert len(alone.layers) == len(width)
        assert sum(value.numel() for value in alone.parameters()) < sum(
            v.numel() for v in shared.parameters()
        )
