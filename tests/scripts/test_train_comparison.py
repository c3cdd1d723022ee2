"""What `scripts/train-comparison` does again after a retraining, and how it ends."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec
import pytest

from isthmus.models.checkpoint import FORMAT, VERSION, read_checkpoint, write_tensors
from isthmus.runtime.bundle import load_bundle, write_manifest
from isthmus.runtime.errors import GateError, InputError


@pytest.fixture(scope="module")
def script(load_script) -> ModuleType:
    return load_script("train_comparison")


@pytest.fixture
def workshop(script, tmp_path):
    return script.Workshop(script.TASKS["cifar10-resnet56"], tmp_path, tmp_path / "out", 1)


@pytest.fixture
def work(workshop, tiny_bundle, tmp_path, monkeypatch):
    """Return a workshop whose exports are copies of the tiny bundle that name the checkpoint's digest."""
    made, exports = workshop, []

    def export(verb: str, *flags: object, log: Path) -> None:
        assert verb == "export"
        folder, bundle = Path(str(flags[0])), Path(str(flags[2]))
        digest = read_checkpoint(folder / "checkpoint.pt")["facts"]["digest"]
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(tiny_bundle, bundle)
        manifest = load_bundle(bundle).manifest
        write_manifest(bundle, msgspec.structs.replace(manifest, provenance={"train_digest": digest}))
        exports.append((folder.name, digest))

    monkeypatch.setattr(made, "_isthmus", export)
    made.exports = exports
    made.train = lambda name, digest: _checkpoint(tmp_path / "out/training" / name / "checkpoint.pt", digest)
    return made


def _checkpoint(file: Path, digest: str) -> None:
    facts = {"digest": digest}
    write_tensors({"format": FORMAT, "version": VERSION, "config": {}, "parts": {}, "facts": facts}, file)


def test_a_bundle_of_an_earlier_training_is_exported_again(work, tmp_path):
    assert work.state("slim-short") == "not begun"
    work.train("slim-short", "first")
    assert work.state("slim-short") == "trained"
    assert (work.exported("slim-short"), work.exported("slim-short")) == (False, True)
    assert work.state("slim-short") == "exported"
    work.train("slim-short", "second")
    assert work.state("slim-short") == "trained"
    assert (work.exported("slim-short"), work.exported("slim-short")) == (False, True)
    (tmp_path / "out" / "slim-short" / "tail.onnx").write_bytes(b"damaged")
    assert work.state("slim-short") == "trained"
    assert [digest for _, digest in work.exports] == ["first", "second"]


def test_what_is_made_of_ours_is_made_again_when_ours_is_another(script, work, monkeypatch):
    def save(_network: object, path: Path, *, with_teacher: bool, facts: dict[str, str]) -> None:
        assert not with_teacher
        _checkpoint(path, facts["digest"])

    monkeypatch.setattr(script, "load_checkpoint", lambda *_, **__: None)
    monkeypatch.setattr(script, "share_widest", lambda _: None)
    monkeypatch.setattr(script, "save_checkpoint", save)
    work.train(script.OURS, "first")
    work.uncalibrated()
    work.uncalibrated()
    assert work.state(script.UNCALIBRATED) == "exported"
    work.train(script.OURS, "second")
    assert work.state(script.UNCALIBRATED) == "not begun"
    work.uncalibrated()
    assert work.state(script.UNCALIBRATED) == "exported"
    assert work.exports == [("no-calibration", "first"), ("no-calibration", "second")]


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (InputError("no such file"), 3),
        (GateError("NaN"), 7),
        (subprocess.CalledProcessError(5, ["isthmus"]), 5),
        (subprocess.CalledProcessError(-9, ["isthmus"]), 137),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(script, monkeypatch, capsys, ended, code):
    def fail(_: object) -> int:
        raise ended

    monkeypatch.setattr(script, "_run", fail)
    assert script.main(["cifar10-resnet56"]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Traceback" not in said


class _Child:
    """A command that is interrupted so often while it is waited for, then ends."""

    def __init__(self, interrupts: int, stop: type[KeyboardInterrupt]) -> None:
        self.interrupts, self.stop, self.ended = interrupts, stop, False

    def wait(self) -> int:
        self.interrupts -= 1
        if self.interrupts >= 0:
            raise self.stop
        return 130

    def terminate(self) -> None:
        self.ended = True


@pytest.mark.parametrize(
    ("stop", "interrupts", "ended"),
    [("KeyboardInterrupt", 1, False), ("KeyboardInterrupt", 2, True), ("_Terminated", 1, True)],
)
def test_an_interrupted_command_may_save_before_the_script_ends(
    script, workshop, monkeypatch, tmp_path, stop, interrupts, ended
):
    child = _Child(interrupts, getattr(script, stop, KeyboardInterrupt))
    monkeypatch.setattr(script, "subprocess", SimpleNamespace(Popen=lambda *_, **__: child, STDOUT=-2))
    with pytest.raises(KeyboardInterrupt):
        workshop._isthmus("train", log=tmp_path / "log.txt")
    assert child.interrupts == -1
    assert child.ended is ended


def test_a_command_that_fails_is_told_by_its_code(script, workshop, monkeypatch, tmp_path):
    monkeypatch.setattr(script.sys, "executable", "false")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        workshop._isthmus("train", log=tmp_path / "log.txt")
    assert failed.value.returncode == 1


def test_a_terminated_script_says_so(script, monkeypatch):
    def fail(_):
        raise script._Terminated

    monkeypatch.setattr(script, "_run", fail)
    assert script.main(["cifar10-resnet56"]) == 128 + 15


def test_what_is_left_out_of_ours_comes_with_ours(script):
    task = script.TASKS["cifar10-resnet56"]
    ours = script.Contender(name=script.OURS, settings={})
    other = script.Contender(name="bottlefit/c03", settings={})
    assert script.UNCALIBRATED in script._names(ours, task)
    assert script.UNCALIBRATED not in script._names(ours, script.TASKS["imagenette-mobilenetv2"])
    assert script._names(other, task) == {"bottlefit/c03", "bottlefit"}


@pytest.mark.parametrize("method", ["bottlefit/c03", "ensemble", "entropic/price-1"])
def test_methods_that_do_not_fit_a_task_are_left_out_of_it(script, method):
    from isthmus.cli._train_flags import bottleneck_size
    from isthmus.models.cutting import CutSite
    from isthmus.models.families import family_named
    from isthmus.models.option_layers import with_defaults

    task = script.TASKS["imagenette-mobilenetv2"]
    every = script.contenders(task.recipe, epochs=1, seed=0, ablations=False)
    size = bottleneck_size(with_defaults(next(one.settings for one in every if one.name == method)))
    cut = CutSite(name="features.13", shape_chw=(96, 14, 14))
    fits = family_named(size.family).fits(cut, (224, 224, 3), size)
    assert fits is (method.partition("/")[0] not in task.left_out)
