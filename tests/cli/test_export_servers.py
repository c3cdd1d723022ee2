"""`isthmus export BUNDLE --triton DIR --mlserver DIR`."""

import json

import pytest

from isthmus.cli import run
from isthmus.runtime.bundle import load_bundle


def test_a_bundle_is_written_for_both_servers(tiny_bundle, tmp_path, capfd):
    digest = load_bundle(tiny_bundle).digest
    flags = ["--triton", str(tmp_path / "t"), "--mlserver", str(tmp_path / "m"), "--json"]
    assert run(["export", str(tiny_bundle), *flags]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said == {
        "bundle": str(tiny_bundle),
        "digest": digest,
        "servers": {"triton": str(tmp_path / "t/tiny"), "mlserver": str(tmp_path / "m/tiny")},
    }
    assert (tmp_path / "t/tiny/1/model.onnx").is_file()
    assert (tmp_path / "m/tiny/isthmus_tail.py").is_file()
    assert load_bundle(tiny_bundle).digest == digest


def test_it_says_how_to_serve_what_it_wrote(tiny_bundle, tmp_path, capfd):
    assert run(["export", str(tiny_bundle), "--triton", str(tmp_path), "--triton-backend", "python"]) == 0
    assert f"serve it with 'tritonserver --model-repository={tmp_path}'" in capfd.readouterr().out
    assert (tmp_path / "tiny/1/model.py").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "is a bundle: say --triton DIR or --mlserver DIR, or give a checkpoint"),
        (["--triton", "t", "--triton-backend", "openvino"], "--triton-backend openvino: give onnxruntime or"),
        (
            ["--triton", "t", "--out", "o", "--local", "--heads", "fp32", "--threads", "1"],
            "is a bundle, which is left as it is: leave out --out, --local, --heads, --threads",
        ),
    ],
)
def test_a_mistake_is_one_line(tiny_bundle, tmp_path, monkeypatch, capfd, flags, message):
    monkeypatch.chdir(tmp_path)
    assert run(["export", str(tiny_bundle), *flags]) == 3
    assert message in " ".join(capfd.readouterr().err.split())


def test_a_batch_out_of_range_is_a_wrong_flag(tiny_bundle, tmp_path, capfd):
    assert run(["export", str(tiny_bundle), "--triton", str(tmp_path), "--max-batch", "0"]) == 2
    assert "--max-batch" in capfd.readouterr().err


def test_a_checkpoint_needs_to_be_told_where_and_what(tmp_path, capfd):
    assert run(["export", str(tmp_path), "--triton", str(tmp_path)]) == 3
    assert "is exported with --out DIR and --dataset SPEC; give both" in " ".join(
        capfd.readouterr().err.split()
    )
