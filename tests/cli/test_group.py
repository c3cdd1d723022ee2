"""A verb with commands: the default one may be left out."""

import pytest
import typer

from isthmus.cli._group import verb_group


@pytest.fixture
def call():
    said: list[tuple[str, str]] = []

    def cut(model: str, depth: int = 1) -> None:
        """Cut a model."""
        said.append(("cut", f"{model} {depth}"))

    def profile(model: str) -> None:
        """Profile a model."""
        said.append(("profile", model))

    app = verb_group("cut", {"cut": cut, "profile": profile}, "Cut things.")

    def run(*words: str) -> list[tuple[str, str]]:
        said.clear()
        typer.main.get_command(app).main(args=list(words), standalone_mode=False)
        return list(said)

    return run


def test_the_first_word_names_a_command_or_belongs_to_the_default_one(call):
    assert call("cut", "a.onnx") == [("cut", "a.onnx 1")]
    assert call("a.onnx", "--depth", "3") == [("cut", "a.onnx 3")]
    assert call("--depth", "3", "a.onnx") == [("cut", "a.onnx 3")]
    assert call("profile", "a.onnx") == [("profile", "a.onnx")]


def test_help_is_the_groups(call, capsys):
    call("--help")
    told = capsys.readouterr().out
    assert "Cut things." in told
    assert "Profile a model." in told
