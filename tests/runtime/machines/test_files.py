import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.runtime.errors import ArtifactError, InputError
from isthmus.runtime.machines import MachineProfile, load_machine, reference_machines, write_machine

Make = Callable[..., MachineProfile]


@pytest.fixture
def file(make_profile: Make, tmp_path: Path) -> Path:
    path = tmp_path / "bench.json"
    write_machine(path, make_profile())
    return path


def alter(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))


def test_what_is_written_is_read_again(make_profile: Make, file: Path) -> None:
    assert load_machine(file) == make_profile()
    assert load_machine(str(file)) == make_profile()
    assert [item.name for item in file.parent.iterdir()] == ["bench.json"]


def test_references_load_by_name_and_say_where_they_come_from() -> None:
    assert "pi4" in reference_machines()
    for name in reference_machines():
        profile = load_machine(name)
        assert profile.name == name
        assert profile.source == "scaled"
        assert "Scission" in profile.origin
        assert all(speed.source == "scaled" and speed.origin for speed in profile.operators)
        assert profile.power is None or profile.power.source == "published"


def test_a_path_is_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=r"^\./pi4: No such file or directory; give a file of .*, pi4$"):
        load_machine("./pi4")


def test_the_reference_of_another_architecture_is_slower_where_it_should_be() -> None:
    """A thousand-fold multiply-add in 3x3 windows: seconds on a Pi, a fraction of that on a desktop."""
    work = (1e9, 10_000_000)
    pi, desktop = (load_machine(name).speed("conv") for name in ("pi4", "cloud-6700k"))
    assert pi is not None
    assert desktop is not None
    assert 10 < pi.seconds(*work) / desktop.seconds(*work) < 50


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda fields: fields.update(schema_version=9), "machine profile version 9, this Isthmus reads 1"),
        (lambda fields: fields.update(threads=0), r"Expected `int` >= 1 - at `\$\.threads`"),
        (lambda fields: fields.update(colour="red"), "unknown field `colour`"),
        (
            lambda fields: fields.update(threads=1),
            "net.onnx was measured with 2 threads, the profile is for 1",
        ),
        (
            lambda fields: fields["networks"]["ab" * 32]["node_s"].update(b=0.5),
            "the nodes of net.onnx sum to 0.501 s, the whole took 0.003 s",
        ),
        (
            lambda fields: fields["networks"]["ab" * 32]["node_s"].update(a=-1),
            "Expected `float` >= 0",
        ),
        (
            lambda fields: fields["networks"]["ab" * 32]["work"].update(c=["conv", 1, 1]),
            "net.onnx has work but no time for 'c'",
        ),
        (lambda fields: fields["networks"].update(short={}), "not a valid machine profile"),
        (
            lambda fields: fields["operators"].append(fields["operators"][0]),
            "speeds of 'conv' are given twice",
        ),
        (lambda fields: fields["operators"][0].update(flops_per_s=0), "Expected `float` > 0"),
    ],
)
def test_a_profile_that_contradicts_itself_is_one_line(
    file: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    alter(file, change)
    with pytest.raises(ArtifactError, match=says) as caught:
        load_machine(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).endswith("make it again with 'isthmus partition profile'")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff\xfe", b'{"schema_version": 1}', b"7"])
def test_a_damaged_file_is_one_line(file: Path, raw: bytes) -> None:
    file.write_bytes(raw)
    with pytest.raises(ArtifactError) as caught:
        load_machine(file)
    assert "\n" not in str(caught.value)


def test_a_profile_that_contradicts_itself_is_not_written(make_profile: Make, tmp_path: Path) -> None:
    profile = msgspec.structs.replace(make_profile(), threads=3)
    with pytest.raises(ArtifactError, match="measured with 2 threads"):
        write_machine(tmp_path / "bench.json", profile)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_line(make_profile: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file or directory; choose another file for the profile"):
        write_machine(tmp_path / "missing" / "bench.json", make_profile())
