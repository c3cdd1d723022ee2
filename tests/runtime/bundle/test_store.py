from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.runtime.bundle import (
    GOLDEN,
    MANIFEST,
    POINTS,
    TABLES,
    TAIL,
    Manifest,
    OperatingPoint,
    PointTable,
    head_name,
    load_bundle,
    write_manifest,
)
from isthmus.runtime.errors import BundleError

Seal = Callable[..., None]
EditJson = Callable[[str, Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def edit_json(own_bundle: Path) -> EditJson:
    """Return `edit(name, change)`, which applies `change` to the decoded JSON file `name` of `own_bundle`.

    A manifest that is still one is sealed again.
    """

    def edit(name: str, change: Callable[[dict[str, Any]], None]) -> None:
        content = json.loads((own_bundle / name).read_text())
        change(content)
        raw = json.dumps(content).encode()
        if name == MANIFEST:
            with contextlib.suppress(msgspec.ValidationError):
                raw = msgspec.json.encode(msgspec.json.decode(raw, type=Manifest).sealed())
        (own_bundle / name).write_bytes(raw)

    return edit


@pytest.mark.parametrize(("width", "name"), [(0.25, "heads/w025.onnx"), (1.0, "heads/w100.onnx")])
def test_head_name(width: float, name: str) -> None:
    assert head_name(width) == name


def test_a_bundle_loads_with_everything_in_it(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    assert bundle.manifest.name == "tiny"
    assert len(bundle.digest) == 64
    assert bundle.head(3) == (tiny_bundle / "heads/w100.onnx").read_bytes()
    assert bundle.has(TAIL)
    assert not bundle.has("tail.pt2")
    point = bundle.manifest.points[5]
    assert bundle.points.record(point).point == point
    with pytest.raises(BundleError, match="no operating point"):
        bundle.points.record(OperatingPoint(0, 3))


def test_the_digest_names_the_content(own_bundle: Path, seal: Seal) -> None:
    before = load_bundle(own_bundle).digest
    seal(own_bundle)
    assert load_bundle(own_bundle).digest == before
    seal(own_bundle, name="other")
    assert load_bundle(own_bundle).digest != before


def test_a_flipped_byte_in_any_file_is_refused(tiny_bundle: Path, own_bundle: Path) -> None:
    names = [file.relative_to(tiny_bundle) for file in sorted(tiny_bundle.rglob("*")) if file.is_file()]
    assert len(names) == 11
    for name in names:
        content = bytearray((own_bundle / name).read_bytes())
        content[len(content) // 2] ^= 0x10
        (own_bundle / name).write_bytes(content)
        with pytest.raises(BundleError, match=rf"{name}: "):
            load_bundle(own_bundle)
        shutil.copy(tiny_bundle / name, own_bundle / name)
    assert load_bundle(own_bundle)


def test_a_flipped_bit_anywhere_in_the_manifest_is_refused(tiny_bundle: Path, own_bundle: Path) -> None:
    original = (tiny_bundle / MANIFEST).read_bytes()
    meaningful = [position for position, byte in enumerate(original) if not chr(byte).isspace()]
    for position in meaningful[::11]:
        content = bytearray(original)
        content[position] ^= 1 << position % 8
        (own_bundle / MANIFEST).write_bytes(content)
        with pytest.raises(BundleError, match=r"manifest\.json"):
            load_bundle(own_bundle)


def test_a_file_altered_after_loading_is_refused_when_read(own_bundle: Path) -> None:
    bundle = load_bundle(own_bundle)
    (own_bundle / TAIL).write_bytes((own_bundle / TAIL).read_bytes() + b"\0")
    with pytest.raises(BundleError, match=r"tail\.onnx: SHA-256 differs"):
        bundle.read(TAIL)
    with pytest.raises(BundleError, match="not part of this bundle"):
        bundle.read("tail.pt2")


@pytest.mark.parametrize("name", [MANIFEST, POINTS, TAIL, TABLES, GOLDEN, "heads/w025.onnx", "exit.onnx"])
def test_a_missing_file_is_named(name: str, own_bundle: Path) -> None:
    (own_bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: No such file or directory; "):
        load_bundle(own_bundle)


@pytest.mark.parametrize("name", [POINTS, TAIL, TABLES, GOLDEN, "heads/w050.onnx"])
def test_a_manifest_must_list_what_a_bundle_needs(name: str, own_bundle: Path, edit_json: EditJson) -> None:
    edit_json(MANIFEST, lambda manifest: manifest["files"].pop(name))
    with pytest.raises(BundleError, match=rf"does not list {name}; export the bundle again"):
        load_bundle(own_bundle)


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle directory; make one with 'isthmus export'"):
        load_bundle(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="no such bundle directory"):
        load_bundle(tmp_path / "file")
    with pytest.raises(BundleError, match=r"manifest\.json: No such file"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version_is_refused_before_anything_else(
    version: object, own_bundle: Path, edit_json: EditJson
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest.clear()
        manifest["schema_version"] = version  # of another version nothing else need be as it is now

    edit_json(MANIFEST, change)
    with pytest.raises(BundleError, match=rf"schema version {version!r}, this Isthmus reads 1; export again"):
        load_bundle(own_bundle)


@pytest.mark.parametrize(
    "name", ["../tiny/tail.onnx", "heads/../../x", "/etc/passwd", "a//b", "heads/", "C:\\x", "", "./x", "é"]
)
def test_file_names_that_leave_the_bundle_are_refused(
    name: str, own_bundle: Path, edit_json: EditJson
) -> None:
    edit_json(MANIFEST, lambda manifest: manifest["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(own_bundle)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("surprise", 1, "unknown field `surprise`"),
        ("name", "a b", "name"),
        ("name", "", "name"),
        ("task", "detection", "task"),
        ("labels", ["one"], "labels has 1 entries"),
        ("labels", "one", "labels"),
        ("widths", [0.5, 0.25, 0.75, 1.0], "not ascending"),
        ("widths", [0.0, 0.5, 0.75, 1.0], r"not all in \(0, 1\]"),
        ("widths", [], "not ascending and distinct"),
        ("points", [], "points is empty"),
        ("points", [[0, 1], [0, 1]], "lists a point twice"),
        ("points", [{"width_index": 4, "channels": 1}], "names a width that widths does not list"),
        ("points", [{"width_index": 0, "channels": 5}], "more channels than the latent has"),
        ("table_id", "xyz", "table_id"),
        ("input", {"height": 0, "width": 16, "channels": 1}, "input.height"),
        (
            "latent",
            {"channels": 4, "height": 4, "width": 4, "zero_points": [1, 2]},
            "2 zero points, 4 channels",
        ),
        ("latent", {"channels": 1, "height": 4, "width": 4, "zero_points": [256]}, "zero_points"),
        ("files", {"tail.onnx": "short"}, "files"),
    ],
)
def test_a_manifest_that_contradicts_the_schema(
    field: str, value: object, message: str, own_bundle: Path, edit_json: EditJson
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        if field == "points" and isinstance(value, list) and value and isinstance(value[0], list):
            manifest["points"] = [{"width_index": width, "channels": count} for width, count in value]
        else:
            manifest[field] = value

    edit_json(MANIFEST, change)
    with pytest.raises(BundleError, match=message):
        load_bundle(own_bundle)


@pytest.mark.parametrize(
    "field", ["name", "labels", "input", "latent", "widths", "points", "files", "table_id"]
)
def test_a_manifest_that_lacks_a_field(field: str, own_bundle: Path, edit_json: EditJson) -> None:
    edit_json(MANIFEST, lambda manifest: manifest.pop(field))
    with pytest.raises(BundleError, match=f"manifest.json: not a valid manifest.*{field}"):
        load_bundle(own_bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"{}" * 2])
def test_a_manifest_that_is_no_json_object(content: bytes, own_bundle: Path) -> None:
    (own_bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(own_bundle)


def test_points_must_be_those_of_the_manifest(own_bundle: Path, edit_json: EditJson, seal: Seal) -> None:
    edit_json(POINTS, lambda table: table["records"].reverse())
    seal(own_bundle)
    with pytest.raises(BundleError, match=r"points\.json: its points are not those of manifest\.json"):
        load_bundle(own_bundle)
    edit_json(POINTS, lambda table: table["records"].pop())
    seal(own_bundle)
    with pytest.raises(BundleError, match=r"points\.json: its points are not those"):
        load_bundle(own_bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.update(surprise=1),
        lambda table: table.pop("teacher_utility"),
        lambda table: table["records"][0].update(utility="high"),
        lambda table: table["records"][0].update(surprise=1),
        lambda table: table["records"][0].pop("bytes_max"),
    ],
)
def test_a_table_of_points_that_contradicts_the_schema(
    change: Callable[[dict[str, Any]], None], own_bundle: Path, edit_json: EditJson, seal: Seal
) -> None:
    edit_json(POINTS, change)
    seal(own_bundle)
    with pytest.raises(BundleError, match=r"points\.json: not a valid table of points"):
        load_bundle(own_bundle)


def test_a_manifest_that_contradicts_itself_is_not_written(own_bundle: Path) -> None:
    manifest = msgspec.json.decode((own_bundle / MANIFEST).read_bytes(), type=Manifest)
    before = (own_bundle / MANIFEST).read_bytes()
    with pytest.raises(BundleError, match="labels has 0 entries"):
        write_manifest(own_bundle, msgspec.structs.replace(manifest, labels=()))
    assert (own_bundle / MANIFEST).read_bytes() == before


def test_a_table_keeps_its_values_through_json(tiny_bundle: Path) -> None:
    points = load_bundle(tiny_bundle).points
    assert msgspec.json.decode(msgspec.json.encode(points), type=PointTable) == points
