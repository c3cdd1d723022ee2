import pytest

from isthmus.models.recipes import LARGE, SMALL_COLOUR, SMALL_GREY, Recipe, recipe_for


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
def test_the_shape_chooses(shape: tuple[int, int, int], recipe: Recipe) -> None:
    assert recipe_for(shape) is recipe


@pytest.mark.parametrize("recipe", [SMALL_GREY, SMALL_COLOUR, LARGE])
def test_every_recipe_offers_four_widths_and_four_counts(recipe: Recipe) -> None:
    assert len(recipe.size.widths) == 4
    assert len(recipe.size.counts()) == 4
    assert recipe.size.counts()[-1] == recipe.size.channels
