"""`isthmus export`, `eval` and `doctor` on a user's own network, with the real server in between."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import torch

from isthmus.cli import run
from isthmus.cli.export import optimism
from isthmus.models.backbones import make_model
from isthmus.models.design import BottleneckSize, design
from isthmus.models.network import SplitNetwork, load_checkpoint, save_checkpoint
from isthmus.partitioner import read_plan, write_plan
from isthmus.runtime.bundle import load_bundle
from isthmus.runtime.datasets import load_dataset, save_npz

USERS_FILE = """
from torch import nn

def build(num_classes):
    layers = [nn.Conv2d(1, 8, 5, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(128, num_classes)]
    return nn.Sequential(*layers)
"""

Fails = Callable[[list[str], int, str], None]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with train.npz, test.npz and training/, trained with 16 images held out."""
    root = tmp_path_factory.mktemp("workshop")
    (root / "net.py").write_text(USERS_FILE)
    images = {
        split: load_dataset("digits", split=split, size=(16, 16), limit=96) for split in ("train", "test")
    }  # type: ignore[arg-type]
    for split, image_set in images.items():
        save_npz(root / f"{split}.npz", image_set)
    ref = f"{root / 'net.py'}:build"
    torch.manual_seed(0)
    teacher = make_model(ref, num_classes=10, in_channels=1)
    size = BottleneckSize(
        channels=2,
        encoder=((4, 0), (4, 0)),
        decoder_channels=8,
        decoder_blocks=0,
        exit_channels=0,
        widths=(1.0,),
    )
    config = design(ref, teacher, cut="1", shape_hwc=(16, 16, 1), labels=images["train"].classes, size=size)
    network = SplitNetwork(config, teacher)
    network.calibrate([torch.from_numpy(images["train"].images)])
    save_checkpoint(network, root / "training" / "checkpoint.pt", facts={"held_out": "16"})
    return root


def run_json(*arguments: str) -> Any:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert run([*arguments, "--json"]) == 0
    return json.loads(output.getvalue())


@pytest.fixture(scope="module")
def exported(workshop: Path) -> dict[str, Any]:
    """Return what `isthmus export --json` printed; the bundle is in `workshop / "bundle"`."""
    result = run_json(
        "export",
        str(workshop / "training"),
        *("--dataset", f"npz:{workshop / 'train.npz'}", "--test", f"npz:{workshop / 'test.npz'}"),
        *("--out", str(workshop / "bundle"), "--local"),
    )
    assert isinstance(result, dict)
    return result


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Return `check(arguments, code, text)`: it ends with `code` and one line that contains `text`."""

    def check(arguments: list[str], code: int, text: str) -> None:
        assert run(arguments) == code
        error = capsys.readouterr().err
        assert text in error
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1

    return check


# export ---------------------------------------------------------------------------------------------------


def test_export_says_what_it_made(exported: dict[str, Any], workshop: Path) -> None:
    bundle = load_bundle(workshop / "bundle")
    assert exported["name"] == bundle.manifest.name == "build"
    assert exported["digest"] == bundle.digest
    assert [record["point"]["channels"] for record in exported["points"]["records"]] == [1, 2]
    assert exported["points"]["measured_on"].startswith("16 held out of npz:")
    assert exported["provenance"]["test_set"].endswith("96 images")
    assert exported["provenance"]["cut"] == "1"


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (["{root}/none"], 4, "none: No such file or directory; make one with 'isthmus train'"),
        (["{root}/net.py"], 4, "net.py: not a readable checkpoint"),
        (["{root}/training", "--dataset", "npz:{root}/none.npz"], 3, "none.npz: No such file"),
        (
            ["{root}/training", "--dataset", "imagenet"],
            3,
            "data set 'imagenet': give digits, npz:FILE or folder:DIR",
        ),
        (
            ["{root}/training", "--dataset", "digits"],
            3,
            "images are 32x32 grey, the network takes 16x16 grey",
        ),
        (["{root}/training", "--test", "digits"], 3, "digits (test): images are 32x32 grey"),
        (["{root}/training", "--calibration", "npz:{root}/no"], 3, "no: No such file"),
        (["{root}/training", "--out", "{root}/training"], 3, "training: exists and is no bundle"),
        (["{root}/training", "--name", "a b"], 3, "name 'a b'"),
        (["{root}/training", "--weights", "{root}/none.pt"], 3, "none.pt"),
    ],
)
def test_export_refuses_in_one_line(
    change: list[str], code: int, text: str, workshop: Path, fails: Fails
) -> None:
    defaults = ["--dataset", f"npz:{workshop / 'train.npz'}", "--out", str(workshop / "other")]
    # Of an option given twice, the last counts.
    first, *rest = (part.format(root=workshop) for part in change)
    fails(["export", first, *defaults, *rest], code, text)
    assert not (workshop / "other").exists()


def test_export_notes_the_plan_and_refuses_that_of_another_cut(
    workshop: Path, tmp_path: Path, fails: Fails
) -> None:
    plan_file = tmp_path / "plan.json"
    network = ["--model", f"{workshop / 'net.py'}:build", "--classes", "10", "--image", "16x16x1"]
    machines = ["--device", "pi4", "--server", "pi4", "--measured-cuts", "0"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(["partition", *network, *machines, "--out", str(plan_file)]) == 0
    plan = read_plan(plan_file)
    checkpoint = ["export", str(workshop / "training"), "--dataset", f"npz:{workshop / 'train.npz'}"]
    flags = [*checkpoint, "--out", str(tmp_path / "bundle"), "--plan", str(plan_file)]
    fails(flags, 3, f"{plan_file}: chose 'local', the checkpoint was trained at '1'; give its own plan")
    (index,) = (
        index for index, item in enumerate(plan.candidates) if item.kind == "split" and item.module == "1"
    )
    choice = msgspec.structs.replace(
        plan.choice, kind="split", candidate=index, cut=plan.candidates[index].cut, module="1"
    )
    write_plan(plan_file, msgspec.structs.replace(plan, choice=choice))
    assert run_json(*flags)["provenance"]["train_plan"] == choice.reason


def test_images_in_a_folder_are_cropped_to_the_networks_size(
    workshop: Path, tmp_path: Path, fails: Fails
) -> None:
    from PIL import Image

    for name in ("0", "1"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (40, 24)).save(tmp_path / "photos" / name / "a.png")
    # Size and classes fit now; what is left to refuse is that photographs are RGB.
    arguments = ["export", str(workshop / "training"), "--dataset", f"folder:{tmp_path / 'photos'}"]
    fails(
        [*arguments, "--out", str(tmp_path / "out")], 3, "images are 16x16 RGB, the network takes 16x16 grey"
    )


def test_arrays_are_cropped_as_they_were_in_training(workshop: Path, tmp_path: Path, fails: Fails) -> None:
    network = load_checkpoint(workshop / "training")
    save_checkpoint(network, tmp_path / "training" / "checkpoint.pt", facts={"held_out": "0", "size": "16"})
    pixels = np.zeros((4, 24, 40, 3), np.uint8)
    np.savez(tmp_path / "wide.npz", images=pixels, labels=np.zeros(4, np.int64), classes=np.array(["0"]))
    arguments = ["--dataset", f"npz:{tmp_path / 'wide.npz'}", "--out", str(tmp_path / "out")]
    # As above, what is left to refuse is the colour.
    fails(
        ["export", str(tmp_path / "training"), *arguments],
        3,
        "images are 16x16 RGB, the network takes 16x16 grey",
    )
    fails(
        ["export", str(workshop / "training"), *arguments],
        3,
        "images are 40x24 RGB, the network takes 16x16 grey",
    )


def test_export_notes_that_the_network_knows_the_calibration_images(
    exported: dict[str, Any], workshop: Path
) -> None:
    bundle = load_bundle(workshop / "bundle")
    test = float(bundle.manifest.provenance["test_teacher_accuracy"])

    def measured(utility: float) -> Any:
        points = msgspec.structs.replace(bundle.points, teacher_utility=utility)
        return dataclasses.replace(bundle, points=points)

    assert optimism(measured(test + 0.02)) is None
    note = optimism(measured(test + 0.05))
    assert note is not None
    assert "give --calibration images that it has not seen" in note


# eval -----------------------------------------------------------------------------------------------------


def test_eval_starts_a_server_measures_and_ends_it(
    exported: dict[str, Any], workshop: Path, tmp_path: Path
) -> None:
    file = tmp_path / "deep" / "result.json"
    before = psutil.Process().children(recursive=True)  # another test's multiprocessing keeps a tracker
    result = run_json(
        "eval", str(workshop / "bundle"), "--dataset", f"npz:{workshop / 'test.npz'}", "--out", str(file)
    )
    assert json.loads(file.read_text()) == result
    assert result["images"] == 96
    assert result["digest"] == exported["digest"]
    assert result["server"].startswith("isthmus ")
    widest = result["points"][-1]
    assert f"{widest['accuracy']['value']:.4f}" == exported["provenance"]["test_widest_accuracy"]
    assert f"{result['local']['value']:.4f}" == exported["provenance"]["test_teacher_accuracy"]
    assert widest["expected_utility"] == exported["points"]["records"][-1]["utility"]
    assert widest["bytes_mean"] > result["points"][0]["bytes_mean"]
    assert widest["accuracy"]["low"] < widest["accuracy"]["high"]
    assert psutil.Process().children(recursive=True) == before, "the server is gone"


@pytest.mark.usefixtures("exported")
def test_eval_prints_a_table(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "eval",
        str(workshop / "bundle"),
        "--dataset",
        f"npz:{workshop / 'test.npz'}",
        "--limit",
        "8",
    ]
    assert run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["width", "channels", "accuracy", "bytes", "p95", "max", "head", "as", "uncut"]
    assert len(lines) == 1 + 2 + 1 + 1  # header, points, uncut, what was measured
    assert "(8 of 96): 8 images, ± is the 95 % interval; payloads by rans, answers from isthmus" in lines[-1]


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (["{root}/none"], 4, "none: no such bundle directory"),
        (["{root}/training"], 4, "manifest.json: No such file"),
        (["{root}/bundle", "--dataset", "digits"], 3, "images are 32x32 grey, the network takes 16x16 grey"),
        (["{root}/bundle", "--codec", "zip"], 3, "codec 'zip': give one of raw, rans, bitshuffle-lz4"),
        (["{root}/bundle", "--server", "127.0.0.1:1"], 5, "server 127.0.0.1:1: UNAVAILABLE"),
    ],
)
def test_eval_refuses_in_one_line(
    change: list[str], code: int, text: str, workshop: Path, fails: Fails
) -> None:
    first, *rest = (part.format(root=workshop) for part in change)
    fails(["eval", first, "--dataset", f"npz:{workshop / 'test.npz'}", *rest], code, text)


@pytest.mark.usefixtures("exported")
def test_eval_says_why_its_server_did_not_start(
    workshop: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_SERVE_THREADS", "0")
    arguments = ["eval", str(workshop / "bundle"), "--dataset", f"npz:{workshop / 'test.npz'}"]
    fails(arguments, 5, "isthmus serve did not become ready")


@pytest.mark.usefixtures("exported")
def test_eval_cannot_write_its_result(workshop: Path, fails: Fails) -> None:
    arguments = [
        "eval",
        str(workshop / "bundle"),
        "--dataset",
        f"npz:{workshop / 'test.npz'}",
        "--limit",
        "2",
    ]
    fails([*arguments, "--out", str(workshop / "net.py" / "x.json")], 3, "choose another --out")


# doctor ---------------------------------------------------------------------------------------------------


def test_doctor_describes_the_machine() -> None:
    result = run_json("doctor")
    assert result["versions"]["numpy"] == np.__version__
    assert "CPUExecutionProvider" in result["providers"]
    assert result["rans"] in ("c", "numpy")
    assert result["extras"]["train"] == []
    assert "bundle" not in result


@pytest.mark.usefixtures("exported")
def test_doctor_verifies_a_bundle(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_json("doctor", str(workshop / "bundle"))
    assert result["bundle"]["ok"] is True
    assert result["bundle"]["golden"]["payloads"] == 4 * 2 * 2
    assert run(["doctor", str(workshop / "bundle")]) == 0
    assert "16 payloads bit for bit" in capsys.readouterr().out


@pytest.mark.usefixtures("exported")
def test_doctor_finds_a_flipped_byte(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(workshop / "bundle", tmp_path / "bundle"))
    tail = bytearray((root / "tail.onnx").read_bytes())
    tail[1000] ^= 1
    (root / "tail.onnx").write_bytes(tail)
    assert run(["doctor", str(root), "--json"]) == 4
    captured = capsys.readouterr()
    assert json.loads(captured.out)["bundle"]["ok"] is False
    assert captured.err.startswith("error: ")
    assert "tail.onnx: SHA-256 differs from manifest.json" in captured.err


def test_doctor_without_optional_parts_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("isthmus.cli.doctor._missing", lambda name: name == "torch")
    assert run(["doctor"]) == 0
    assert "extra train     not installed (torch): pip install 'isthmus[train]'" in capsys.readouterr().out
