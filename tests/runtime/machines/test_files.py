import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.runtime.errors import ArtifactError, InputError
from isthmus.runtime.machines import (
    ALIASES,
    Cited,
    MachineProfile,
    Power,
    load_machine,
    reference_machines,
    write_machine,
)

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
        assert any(place in profile.origin for place in ("Scission", "NetsPresso", "ncnn", "Allan"))
        assert all(speed.source == "scaled" and speed.origin for speed in profile.operators)
        assert {"conv", "depthwise", "matmul", "other"} <= {speed.operator for speed in profile.operators}
        for part in (profile.power, profile.radio):
            assert part is None or (part.source in ("published", "scaled") and part.origin)


@pytest.mark.parametrize("name", ["pi4", "pi5", "jetson-nano", "orin-nano", "laptop"])
def test_devices_know_their_watts_at_rest_and_computing(name: str) -> None:
    power = load_machine(name).power
    assert power is not None
    assert power.idle_w is not None
    assert power.compute_w is not None
    assert 0 < power.idle_w < 10
    assert 0 < power.compute_w < 40


def test_references_have_other_names() -> None:
    for alias, name in ALIASES.items():
        assert alias not in reference_machines()
        assert load_machine(alias) == load_machine(name)


def test_a_citation_of_what_is_not_there_is_refused(make_profile: Make, tmp_path: Path) -> None:
    cited = {"power.idle_w": Cited(source="published", origin="a book")}
    power = Power(idle_w=1.0, compute_w=None, transmit_w=None, source="scaled", origin="a guess")
    profile = make_profile(power=power, cited=cited)
    write_machine(tmp_path / "good.json", profile)
    assert load_machine(tmp_path / "good.json").cited == cited
    for field in ("power.watts", "watts"):
        with pytest.raises(ArtifactError, match=f"'cited' names '{field}', which the profile does not have"):
            write_machine(
                tmp_path / "bad.json", make_profile(power=power, cited={field: cited["power.idle_w"]})
            )


def test_a_path_is_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ArtifactError, match=r"^\./pi4: No such file or directory; give a file of .*, pi4, pi5, server-gpu$"
    ):
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
