from pathlib import Path

import pytest

from isthmus.cli._train_flags import whole_configuration
from isthmus.models.recipes import LARGE, SMALL_COLOUR, SMALL_GREY, load_recipe, recipe_for, recipe_names
from isthmus.models.train_options import OPTIONS
from isthmus.runtime.errors import InputError


@pytest.mark.parametrize(
    ("shape", "recipe"),
    [
        ((32, 32, 1), SMALL_GREY),
        ((32, 32, 3), SMALL_COLOUR),
        ((64, 64, 3), SMALL_COLOUR),
        ((224, 224, 3), LARGE),
        ((64, 128, 1), LARGE),
    ],
)
def test_the_shape_chooses(shape: tuple[int, int, int], recipe: str) -> None:
    assert recipe_for(shape) == recipe
    assert recipe in recipe_names()


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_read_and_says_how_long_it_trains(name: str) -> None:
    recipe = load_recipe(name)
    assert set(recipe) <= set(OPTIONS)
    assert {"epochs", "batch_size", "learning_rate"} <= set(recipe)


def test_a_recipe_of_ones_own_builds_on_another(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('recipe = "small-grey"\nepochs = 3\n')
    assert load_recipe(str(mine)) == {**load_recipe("small-grey"), "epochs": 3}


def test_a_recipe_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe 'absent': give one of .*small-grey.*, or a \.toml file"):
        load_recipe("absent")
    mine = tmp_path / "mine.toml"
    mine.write_text(f'recipe = "{mine}"\n')
    with pytest.raises(InputError, match="builds on itself"):
        load_recipe(str(mine))
    mine.write_text("epoch = 3\n")
    with pytest.raises(InputError, match="setting 'epoch' is unknown"):
        load_recipe(str(mine))


def test_other_channels_have_none_of_the_recipes_prefixes_and_their_shares() -> None:
    given = {"recipe": "cifar10-resnet56", "channels": 16}
    found = whole_configuration(given, None)
    assert (found["channel_counts"], found["count_shares"]) == (None, None)
    shares = whole_configuration({**given, "count_shares": [0.5, 0.5]}, None)["count_shares"]
    assert shares == [0.5, 0.5]
