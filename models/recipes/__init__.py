"""Named recipes: TOML files of settings, beside this module or the user's own.

One of them suits each kind of image, so that a first training needs no flags; every value can be overridden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isthmus.models.option_layers import merged, read_toml
from isthmus.runtime.errors import InputError

SMALL_GREY, SMALL_COLOUR, LARGE = "small-grey", "small-colour", "large"
# Above this side an image is large: one more halving brings its latent to a plane that is cheap to decode.
_SMALL_SIDE = 64
_FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def recipe_for(shape_hwc: tuple[int, int, int]) -> str:
    """Return the name of the recipe for images of `shape_hwc`."""
    height, width, channels = shape_hwc
    if max(height, width) > _SMALL_SIDE:
        return LARGE
    return SMALL_GREY if channels == 1 else SMALL_COLOUR


def load_recipe(name: str, *, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings of the recipe `name`, or of the TOML file it is the path of.

    A recipe may build on another, which it names as its own `recipe`.

    Args:
        name: A name of `recipe_names`, or a path that ends in .toml.
        above: The recipes that build on it.

    Raises:
        InputError: If there is no such recipe, or it cannot be used.
    """
    if name in above:
        raise InputError(f"recipe {name!r} builds on itself ({' on '.join((*above, name))}); name another")
    file = Path(name).expanduser() if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and name not in recipe_names():
        raise InputError(f"recipe {name!r}: give one of {', '.join(recipe_names())}, or a .toml file")
    settings = read_toml(file)
    base = settings.pop("recipe", None)
    return merged(load_recipe(str(base), above=(*above, name)) if base is not None else {}, settings)
