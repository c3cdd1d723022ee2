from pathlib import Path
from typing import Any

import pytest

from isthmus.models.option_layers import converted, merged, read_layers, read_toml, to_toml, with_defaults
from isthmus.models.train_options import OPTIONS
from isthmus.runtime.errors import InputError


def test_flags_win_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("epochs = 1\nbatch_size = 16\nseed = 7\n")
    environ = {"ISTHMUS_TRAIN_EPOCHS": "2", "ISTHMUS_TRAIN_BATCH_SIZE": "32", "OTHER": "x"}
    found = read_layers({"epochs": 3, "clip": None}, file=file, environ=environ)
    assert found == {"epochs": 3, "batch_size": 32, "seed": 7}


def test_an_unknown_name_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("epoch = 1\n")
    with pytest.raises(InputError, match=r"recipe\.toml: setting 'epoch' is unknown"):
        read_layers({}, file=file, environ={})
    with pytest.raises(InputError, match="ISTHMUS_TRAIN_EPOCH: there is no setting 'epoch'"):
        read_layers({}, file=None, environ={"ISTHMUS_TRAIN_EPOCH": "1"})


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("epochs = ", "not a TOML file"), ("\xff", "not a TOML file")],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "recipe.toml"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read_toml(file)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("epochs", "3", 3),
        ("epochs", 3.0, 3),
        ("learning_rate", "1e-3", 1e-3),
        ("flip", "yes", True),
        ("flip", False, False),
        ("widths", "0.25,1", [0.25, 1]),
        ("widths", [0.25, 1.0], [0.25, 1.0]),
        ("target_bytes", 300, [300]),
        ("target_bytes", "60/120,70/130", [[60, 120], [70, 130]]),
        ("structure", "depth=2,norm=true,name=plain", {"depth": 2, "norm": True, "name": "plain"}),
    ],
)
def test_every_layer_writes_values_its_own_way(name: str, value: Any, wanted: Any) -> None:
    assert converted(name, value) == wanted


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", "2.5", "epochs '2.5': give a whole number"),
        ("epochs", 2.5, "epochs 2.5: give a whole number"),
        ("epochs", True, "epochs True: give a whole number"),
        ("epochs", 0, "epochs 0: give at least 1"),
        ("learning_rate", "nan", "learning_rate 'nan': give a number"),
        ("flip", "maybe", "flip 'maybe': give true or false"),
        ("decay", "linear", "decay 'linear': give one of cosine, steps, constant"),
        ("widths", "a,b", "--widths 'a,b': give numbers separated by commas"),
        ("mean", "0.4/0.5", "--mean '0.4/0.5': give numbers separated by commas, no rows"),
        ("count_shares", "1/2", "--count-shares '1/2': give numbers separated by commas, no rows"),
        ("width_shares", "0.4/0.3,0.2", "--width-shares '0.4/0.3,0.2': give numbers separated by commas"),
        ("target_bytes", [], "--target-bytes .*: give numbers, or rows of numbers, none of them empty"),
        ("target_bytes", [[]], "--target-bytes .*: give numbers, or rows of numbers, none of them empty"),
        ("target_bytes", [[[9]]], "--target-bytes .*: give rows of numbers, not rows of rows"),
        ("target_bytes", "nan", "--target-bytes 'nan': give numbers"),
        ("rate_price", [-1], r"rate_price \[-1\]: give at least 0"),
        ("count_shares", "0.5,-1", "count_shares '0.5,-1': give at least 0"),
        ("channel_counts", "2.5,16", "--channel-counts '2.5,16': give whole numbers"),
        ("channel_counts", "0,16", "channel_counts '0,16': give at least 1"),
        ("structure", "depth", "structure 'depth': give NAME=VALUE"),
        ("cut", ["a"], "cut .*: give a text"),
    ],
)
def test_what_is_no_value_is_one_line(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        converted(name, value)


def test_a_price_above_replaces_a_target_below_and_a_cut_a_plan() -> None:
    below = {"target_bytes": 300, "plan": "plan.json", "epochs": 2}
    assert merged(below, {"rate_price": 0, "cut": "layer1"}) == {
        "rate_price": [0],
        "cut": "layer1",
        "epochs": 2,
    }
    assert merged({"rate_price": 0}, {"target_bytes": 300}) == {"target_bytes": [300]}


def test_a_whole_configuration_reads_back_the_same(tmp_path: Path) -> None:
    given = {
        "epochs": 3,
        "learning_rate": 1e-3,
        "dataset": 'npz:a "quoted"\\name.npz',
        "flip": False,
        "target_bytes": [[60.0, 120.5], [70, 130]],
        "structure": {"depth": 2, "name": "plain", "kernels": [3, 5]},
    }
    whole = with_defaults(given)
    assert set(whole) == set(OPTIONS)
    file = tmp_path / "config.toml"
    for text in (to_toml(whole), to_toml(whole, unset=True)):
        file.write_text(text)
        assert with_defaults(read_layers({}, file=file, environ={})) == whole
    lines = text.splitlines()
    assert "# weights =" in lines[: lines.index("[structure]")]
    assert "# epochs =" not in lines
