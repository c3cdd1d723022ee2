"""`isthmus export --to-zoo` and `--zoo`, on a small trained network."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from isthmus.cli import run
from isthmus.models import head_choice
from isthmus.models.backbones import make_model
from isthmus.models.design import BottleneckSize, design
from isthmus.models.network import SplitNetwork, save_checkpoint
from isthmus.runtime.bundle import load_bundle
from isthmus.runtime.datasets import load_dataset, save_npz


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, teacher.pt and a checkpoint without the teacher."""
    root = tmp_path_factory.mktemp("zoo")
    images = {
        split: load_dataset("digits", split=split, size=(16, 16), limit=96) for split in ("train", "test")
    }  # type: ignore[arg-type]
    for split, image_set in images.items():
        save_npz(root / f"{split}.npz", image_set)
    torch.manual_seed(0)
    teacher = make_model("digits-cnn", num_classes=10, in_channels=1)
    torch.save(teacher.state_dict(), root / "teacher.pt")
    size = BottleneckSize(
        channels=2,
        encoder=((8, 0), (8, 0)),
        decoder_channels=8,
        decoder_blocks=0,
        exit_channels=0,
        widths=(1.0,),
    )
    labels = images["train"].classes
    config = design("digits-cnn", teacher, cut="stage2", shape_hwc=(16, 16, 1), labels=labels, size=size)
    network = SplitNetwork(config, teacher)
    network.calibrate([torch.from_numpy(images["train"].images)])
    facts = {"held_out": "16", "command": "isthmus train --weights /somewhere/deep/teacher.pt"}
    save_checkpoint(network, root / "checkpoint.pt", with_teacher=False, facts=facts)
    (root / "notes.md").write_text("## Data\n\nHandwritten digits.\n")
    return root


def export(root: Path, *arguments: str) -> Any:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = run(["export", *arguments, "--dataset", f"npz:{root / 'train.npz'}", "--json"])
    assert code == 0
    return json.loads(output.getvalue())


@pytest.mark.timeout(300)
def test_a_checkpoint_becomes_an_entry_and_the_entry_a_bundle(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which kind of 8-bit head is quicker is measured, and would decide what the two bundles hold.
    monkeypatch.setattr(
        head_choice,
        "median_seconds",
        lambda pairs: {network.name: 1.0 + place for place, (network, _) in enumerate(pairs)},
    )
    weights = ["--weights", str(workshop / "teacher.pt")]
    entry = workshop / "digits-slim"
    first = export(
        workshop,
        *(str(workshop), *weights, "--to-zoo", str(entry), "--out", str(workshop / "first")),
        *("--test", f"npz:{workshop / 'test.npz'}", "--notes", str(workshop / "notes.md"), "--heads", "int8"),
    )
    assert sorted(file.name for file in entry.iterdir()) == ["card.md", "config.json", "weights.npz"]
    card = (entry / "card.md").read_text()
    assert card.startswith("# digits-slim\n")
    assert "## Data\n\nHandwritten digits." in card
    assert "- command: isthmus train --weights deep/teacher.pt" in card
    assert "96 images, 95 % Wilson intervals" in card
    assert "/somewhere" not in card
    for choice in first["provenance"]["heads"].split("; "):
        assert f"- {choice}" in card
    rows = [line for line in card.splitlines() if line.startswith("| 1 |")]
    assert [row.split(" | ")[1] for row in rows] == ["1", "2"]
    widest = float(first["provenance"]["test_widest_accuracy"])
    assert f"| {widest:.1%} (" in rows[-1]

    export(workshop, "--zoo", str(entry), *weights, "--out", str(workshop / "second"), "--heads", "int8")
    bundles = [load_bundle(workshop / name) for name in ("first", "second")]
    for file in ("tail.onnx", "tables.npz"):
        assert bundles[0].read(file) == bundles[1].read(file), "the first was made from the entry too"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 3, "export takes a checkpoint or --zoo NAME; give one of the two"),
        (["{root}", "--zoo", "x"], 3, "give one of the two"),
        (["--zoo", "no-such", "--weights", "{root}/teacher.pt"], 3, "zoo entry 'no-such': give the folder"),
        (["--zoo", "no-such"], 3, "no-such: zoo entries leave out the uncut network; give --weights FILE"),
        # Before the network, which is not there, is loaded.
        (
            ["{root}/none", "--triton", "t", "--triton-backend", "x"],
            3,
            "--triton-backend x: give onnxruntime",
        ),
        (
            ["{root}/none", "--notes", "{root}/notes.md"],
            3,
            "for the card of a zoo entry; give --to-zoo DIR too",
        ),
        (["{root}/none", "--to-zoo", "{root}/z", "--notes", "{root}/no.md"], 3, "no.md: No such file"),
        (["{root}", "--to-zoo", "{root}/z"], 3, "leave out the uncut network; give --weights FILE"),
    ],
)
def test_flags_that_do_not_go_together(
    arguments: list[str],
    code: int,
    text: str,
    workshop: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [part.format(root=workshop) for part in arguments]
    dataset = ["--dataset", f"npz:{workshop / 'train.npz'}", "--out", str(tmp_path / "out")]
    assert run(["export", *given, *dataset]) == code
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) == 1
