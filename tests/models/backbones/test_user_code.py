"""A user's file has neighbours, and they may be called like our rooms."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.models.backbones import make_model
from isthmus.models.backbones.user_code import load_file
from isthmus.runtime.errors import InputError

NET = """
import models.layers
from runtime import HIDDEN

def make(num_classes):
    import partitioner  # only when it is called
    return models.layers.Layer(HIDDEN + partitioner.MORE, num_classes)
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    path, names = list(sys.path), set(sys.modules)
    yield
    assert sys.path == path
    for name in set(sys.modules) - names:
        del sys.modules[name]


def _project(folder: Path, hidden: int) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "__init__.py").write_text("")
    (folder / "models" / "layers.py").write_text("from torch import nn\nclass Layer(nn.Linear):\n    pass\n")
    (folder / "runtime.py").write_text(f"HIDDEN = {hidden}\n")
    (folder / "partitioner.py").write_text("MORE = 1\n")
    (folder / "net.py").write_text(NET)
    return folder / "net.py"


def test_neighbours_import_and_never_meet_ours(tmp_path: Path) -> None:
    import isthmus.models
    import isthmus.runtime

    ours = (isthmus.models.__file__, isthmus.runtime.__file__)
    network = make_model(f"{_project(tmp_path, 4)}:make", 7, 3)
    assert network.state_dict()["weight"].shape == (7, 5)
    assert type(network).__module__ == "models.layers"
    assert (sys.modules["isthmus.models"].__file__, sys.modules["isthmus.runtime"].__file__) == ours


def test_two_projects_with_the_same_names_do_not_mix(tmp_path: Path) -> None:
    shapes = [
        tuple(make_model(f"{_project(tmp_path / name, hidden)}:make", 7, 3).state_dict()["weight"].shape)
        for name, hidden in (("first", 2), ("second", 6))
    ]
    assert shapes == [(7, 3), (7, 7)]


def test_an_environment_inside_the_project_is_not_the_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "env" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "from_the_environment.py").write_text("")
    monkeypatch.syspath_prepend(packages)
    (tmp_path / "net.py").write_text("import from_the_environment\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "net.py").write_text("")
    load_file(tmp_path / "net.py")
    installed = sys.modules["from_the_environment"]
    load_file(other / "net.py")
    assert sys.modules["from_the_environment"] is installed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\nsys.exit(2)\n", "net.py: cannot be imported: SystemExit: 2"),
        ("def (:\n", "net.py: cannot be imported: SyntaxError: invalid syntax"),
        ("raise ValueError('two\\nlines')\n", "net.py: cannot be imported: ValueError: two lines$"),
    ],
)
def test_a_file_that_fails_is_one_line_and_leaves_nothing(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "net.py").write_text(text)
    names = set(sys.modules)
    with pytest.raises(InputError, match=message):
        load_file(tmp_path / "net.py")
    assert set(sys.modules) == names
