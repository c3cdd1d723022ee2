import json
from pathlib import Path

import pytest
import torch

from isthmus.cli import run
from isthmus.models.backbones import make_model
from isthmus.models.checkpoint import read_checkpoint
from isthmus.models.network import load_checkpoint
from isthmus.models.train_options import OPTIONS

SMALL = ["--encoder", "8x0,8x0", "--decoder", "16x0", "--channels", "4", "--exit-channels", "8"]


@pytest.fixture
def train(images: str, tmp_path: Path) -> list[str]:
    flags = ["--dataset", images, "--out", str(tmp_path / "run"), "--threads", "1", "--epochs", "2"]
    return ["train", *flags, "--batch-size", "20", "--teacher-epochs", "1", *SMALL]


def test_a_training_ends_with_a_checkpoint_and_its_figures(
    train: list[str], images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*train, "--cut", "stage2", "--test", images, "--validation", "10", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert len(result["points"]) == 4 * 3
    assert {point["width"] for point in result["points"]} == {0.25, 0.5, 0.75, 1.0}
    assert len(result["exits"]) == 4
    assert result["steps"] == "4"  # 50 images in batches of 20, twice
    assert "epoch 2/2" in captured.err
    assert "held-out" in captured.err
    network = load_checkpoint(tmp_path / "run")
    assert network.config.labels == ("dark", "bright")
    assert network.config.cut == "stage2"
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 0, 1, 1]


@pytest.mark.parametrize("flags", [[], ["--recipe", "entropic"], ["--dataset", "{images}"]])
def test_every_setting_is_shown(flags: list[str], images: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--show-config", *(flag.format(images=images) for flag in flags)]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = {line.removeprefix("# ").partition(" =")[0].strip("[]") for line in lines if line}
    assert shown >= set(OPTIONS)
    recipes = {"": "# recipe =", "--recipe": 'recipe = "entropic"', "--dataset": 'recipe = "small-grey"'}
    assert recipes[(flags or [""])[0]] in lines


def test_a_run_is_not_overwritten_but_resumed(
    train: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*train, "--cut", "stage2"]) == 0
    assert run([*train, "--cut", "stage2"]) == 3
    assert "earlier run is here; add --resume" in " ".join(capsys.readouterr().err.split())
    before = read_checkpoint(tmp_path / "run/checkpoint.pt")["parts"]["encoder"]
    assert run([*train, "--cut", "stage2", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == "4"  # nothing was left to do
    after = read_checkpoint(tmp_path / "run/checkpoint.pt")["parts"]["encoder"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert run([*train, "--cut", "stage1", "--resume"]) == 3


def test_an_output_that_is_no_directory_is_one_line(
    train: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("a file")
    assert run([*train, "--cut", "stage2"]) == 3
    assert "choose another --out" in " ".join(capsys.readouterr().err.split())


def test_a_given_network_is_cut_and_can_be_left_out(train: list[str], tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(make_model("digits-cnn", 2, 1).state_dict(), weights)
    flags = ["--cut", "stage2", "--weights", str(weights), "--no-teacher", "--tune-tail", "--size", "16"]
    assert run([*train, *flags]) == 0
    contents = read_checkpoint(tmp_path / "run/checkpoint.pt")
    assert contents["teacher"] is None
    assert contents["config"]["tail_tuned"]
    assert contents["facts"]["size"] == "16"
    assert not (tmp_path / "run/teacher.pt").exists()


def test_a_network_that_comes_trained_is_taken_as_it_is(train: list[str], tmp_path: Path) -> None:
    weights = make_model("digits-cnn", 2, 1).state_dict()
    torch.save(weights, tmp_path / "inside.pt")
    factory = f"""
import torch
from isthmus.models.backbones import make_model

def build(num_classes, in_channels):
    network = make_model("digits-cnn", num_classes, in_channels)
    network.load_state_dict(torch.load({str(tmp_path / "inside.pt")!r}))
    return network
"""
    (tmp_path / "mine.py").write_text(factory)
    flags = ["--cut", "stage2", "--model", f"{tmp_path / 'mine.py'}:build", "--teacher-epochs", "0"]
    assert run([*train, *flags]) == 0
    kept = read_checkpoint(tmp_path / "run/checkpoint.pt")["teacher"]
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 3, "give either --cut NAME or --plan plan.json"),
        (["--cut", "stage9"], 3, "cuts that fit: stage1.0,"),
        (["--cut", "stage2", "--plan", "plan.json"], 3, "give either"),
        (["--plan", "absent.json"], 4, "absent.json: No such file"),
        (["--cut", "stage2", "--model", "vgg"], 3, "model 'vgg': give one of"),
        (["--cut", "stage2", "--weights", "absent.pt"], 3, "absent.pt: No such file"),
        (["--cut", "stage2", "--dataset", "mnist"], 3, "data set 'mnist'"),
        (["--cut", "stage2", "--test", "digits"], 3, "digits"),
        (["--cut", "stage2", "--encoder", "8"], 3, "--encoder '8': give CHANNELSxBLOCKS"),
        (["--cut", "stage2", "--widths", "a,b"], 3, "--widths 'a,b': give numbers"),
        (["--cut", "stage2", "--widths", "0.5,0.25"], 3, "ascending fractions"),
        (["--cut", "stage2", "--channel-counts", "1,2"], 3, "end with 4"),
        (["--cut", "stage2", "--mean", "0.1,0.2"], 3, "--mean '0.1,0.2': give 1 values"),
        (["--cut", "stage2", "--validation", "60"], 3, "has only 60 images; 60 cannot be held out"),
        (["--cut", "stage2", "--target-bytes", "9", "--rate-price", "1"], 3, "give one of them"),
        (["--cut", "stage2", "--epochs", "0"], 2, "epochs"),
    ],
)
def test_a_wrong_flag_is_one_line(
    train: list[str], flags: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*train, *flags]) == code
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error
