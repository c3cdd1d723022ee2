"""What `isthmus train --resume` goes on with, and what it refuses without harm."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from isthmus.cli import run
from isthmus.models.checkpoint import read_checkpoint

SMALL = ["--encoder", "8x0,8x0", "--decoder", "16x0", "--channels", "4", "--exit-channels", "8"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def train(images: str, out: Path) -> list[str]:
    flags = ["--dataset", images, "--out", str(out), "--threads", "1", "--epochs", "1", "--cut", "stage2"]
    return ["train", *flags, "--batch-size", "20", "--teacher-epochs", "1", *SMALL]


def _said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_refused_resumption_leaves_the_run_its_own_settings(
    train: list[str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(train) == 0
    assert run(["train", "--resume", "--out", str(out), "--epochs", "5"]) == 3
    assert "epochs = 1, now 5" in _said(capsys)
    assert run(["train", "--resume", "--out", str(out)]) == 0


def test_a_run_goes_on_without_the_recipe_it_began_with(train: list[str], out: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('recipe = "small-grey"\nlearning_rate = 1e-3\n')
    assert run([*train, "--recipe", str(recipe)]) == 0
    recipe.unlink()
    assert run(["train", "--resume", "--out", str(out)]) == 0


@pytest.mark.parametrize("flags", [["--validation", "10"], ["--dataset", "other"]])
def test_other_images_are_refused(
    train: list[str], out: Path, tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(train) == 0
    if "other" in flags:
        with np.load(tmp_path / "images.npz") as file:
            np.savez(tmp_path / "other.npz", **{**file, "images": file["images"][::-1]})
        flags = ["--dataset", f"npz:{tmp_path / 'other.npz'}"]
    assert run(["train", "--resume", "--out", str(out), *flags]) == 3
    assert "was trained with data" in _said(capsys)


def test_a_recipe_may_say_what_size_images_are_brought_to(
    train: list[str], out: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('recipe = "small-grey"\nsize = "8x8"\n')
    assert run([*train, "--recipe", str(recipe)]) == 0
    assert read_checkpoint(out / "checkpoint.pt")["config"]["input_height"] == 8
    assert run(["train", "--resume", "--out", str(out)]) == 0


def test_a_run_that_left_no_state_begins_anew(
    train: list[str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*train, "--resume"]) == 0
    assert "no state yet; this run begins anew" in _said(capsys)
    assert (out / "checkpoint.pt").is_file()


def test_a_run_goes_on_without_the_checkpoint_it_started_from_and_keeps_its_command(
    train: list[str], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["isthmus", *train])
    assert run(train) == 0
    (out / "checkpoint.pt").rename(tmp_path / "first.pt")
    again = out.with_name("again")
    command = [*train, "--out", str(again), "--start", str(tmp_path / "first.pt")]
    monkeypatch.setattr("sys.argv", ["isthmus", *command])
    assert run(command) == 0
    (tmp_path / "first.pt").unlink()
    digest = read_checkpoint(again / "checkpoint.pt")["facts"]["digest"]
    monkeypatch.setattr("sys.argv", ["isthmus", "train", "--resume", "--out", str(again)])
    assert run(["train", "--resume", "--out", str(again)]) == 0
    facts = read_checkpoint(again / "checkpoint.pt")["facts"]
    assert facts["digest"] == digest
    assert facts["command"] == shlex.join(["isthmus", *command])


def test_what_does_not_fit_is_refused_before_anything_is_taught(
    train: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("isthmus.models.stem_start.teach_stem", lambda *_, **__: pytest.fail("it was taught"))
    flags = ["--encoder", "auto", "--start", "teacher", "--stem-steps", "5", "--count-shares", "1,1"]
    kept = [flag for at, flag in enumerate(train) if "--encoder" not in (flag, train[at - 1])]
    assert run([*kept, *flags, "--channel-counts", "1,2,4"]) == 3
    assert "count_shares 1,1: 2 for the channel counts (1, 2, 4)" in _said(capsys)
