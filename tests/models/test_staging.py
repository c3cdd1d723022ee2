"""Tests of `isthmus.models.staging`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isthmus.models.staging import staged_directory
from isthmus.runtime.errors import GateError, InputError


def _fill(out: Path, text: str) -> None:
    with staged_directory(out) as root:
        (root / "manifest.json").write_text(text)


def test_a_directory_appears_whole_and_replaces_a_bundle(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "bundle"
    _fill(out, "first")
    _fill(out, "second")
    assert (out / "manifest.json").read_text() == "second"
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", [".", "", "../here"])
def test_the_working_directory_is_never_replaced(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "here"
    _fill(out, "first")
    monkeypatch.chdir(out)
    with pytest.raises(InputError, match="the working directory cannot be replaced"):
        _fill(Path(name), "second")
    assert (out / "manifest.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_directory_above_is_filled_and_refilled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for text in ("first", "second"):
        _fill(Path("../bundle"), text)
        assert (tmp_path / "bundle" / "manifest.json").read_text() == text


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    _fill(tmp_path / "bundle", "first")

    def fail() -> None:
        with staged_directory(tmp_path / "bundle") as root:
            (root / "manifest.json").write_text("half")
            raise GateError("no")

    with pytest.raises(GateError):
        fail()
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    "make", [Path.write_text, lambda path, text: (path.mkdir(), (path / "mine").write_text(text))]
)
def test_what_is_no_bundle_is_never_replaced(make: Callable[[Path, str], Any], tmp_path: Path) -> None:
    make(tmp_path / "out", "precious")
    with pytest.raises(InputError, match="exists and is no bundle"):
        _fill(tmp_path / "out", "x")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --out"):
        _fill(tmp_path / "file" / "bundle", "x")
