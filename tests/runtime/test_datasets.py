from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.runtime.datasets import ImageSet, hold_out, load_dataset, parse_size, save_npz, spread
from isthmus.runtime.errors import InputError


@pytest.fixture
def write_npz(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes arrays to an npz file and gives its specification."""

    def write(**arrays: object) -> str:
        path = tmp_path / "set.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return f"npz:{path}"

    return write


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Return a folder with classes `cat` (3 images) and `dog` (2), 6×4 pixels, each of one grey value."""
    root = tmp_path / "pets"
    for folder, values in (("dog", (40, 50)), ("cat", (10, 20, 30))):
        (root / folder).mkdir(parents=True)
        for index, value in enumerate(values):
            Image.new("L", (6, 4), value).save(root / folder / f"{index}.png")
    return root


# digits ---------------------------------------------------------------------------------------------------


def test_digits_are_split_without_overlap_and_with_every_class() -> None:
    train = load_dataset("digits", split="train")
    test = load_dataset("digits", split="test")
    assert train.shape_hwc == test.shape_hwc == (32, 32, 1)
    assert len(train) + len(test) == 3 * 1797
    assert len(test) == pytest.approx(3 * 1797 / 5, abs=30)
    assert set(test.labels) == set(train.labels) == set(range(10))
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert (train.images.min(), train.images.max()) == (0, 255)


def test_a_drawn_digit_does_not_depend_on_what_else_is_loaded() -> None:
    whole, part = load_dataset("digits", split="test"), load_dataset("digits", split="test", limit=5)
    assert np.array_equal(part.images, whole.images[spread(len(whole), 5)])
    assert not np.array_equal(whole.images[0], whole.images[1])  # two drawings of one digit
    assert whole.labels[0] == whole.labels[1]


def test_limit_spreads_over_the_set_and_the_name_says_so() -> None:
    part = load_dataset("digits", split="test", limit=50)
    assert len(part) == 50
    assert len(set(part.labels)) == 10
    assert part.name.endswith("(50 of 1065)")


def test_size_resizes_what_has_another_size() -> None:
    part = load_dataset("digits", split="test", size=(16, 24), limit=2)
    assert part.shape_hwc == (16, 24, 1)
    assert part.images.max() > 100


@pytest.mark.parametrize(
    ("count", "limit", "expected"), [(4, None, [0, 1, 2, 3]), (4, 9, [0, 1, 2, 3]), (10, 3, [0, 3, 6])]
)
def test_spread(count: int, limit: int | None, expected: list[int]) -> None:
    assert spread(count, limit).tolist() == expected


@pytest.mark.parametrize("spec", ["", "cifar10", "digits:x", "npz:", "folder:", "npz", "zip:a.zip"])
def test_an_unknown_specification_lists_the_valid_forms(spec: str) -> None:
    with pytest.raises(InputError, match=r"give digits, npz:FILE or folder:DIR"):
        load_dataset(spec, split="train")


@pytest.mark.parametrize(
    ("arguments", "message"), [({"limit": 0}, "limit 0"), ({"size": (0, 8)}, r"size \(0, 8\)")]
)
def test_a_limit_or_size_below_one_is_an_error(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset("digits", split="train", **arguments)  # type: ignore[arg-type]


def test_hold_out_splits_by_class_and_the_same_way_every_time() -> None:
    digits = load_dataset("digits", split="train")
    rest, held = hold_out(digits)
    again, held_again = hold_out(digits)
    assert len(rest) + len(held) == len(digits)
    assert len(held) == len(digits) // 8
    assert np.bincount(held.labels).min() >= np.bincount(digits.labels).min() // 8
    assert not {image.tobytes() for image in rest.images} & {image.tobytes() for image in held.images}
    assert np.array_equal(rest.images, again.images)
    assert np.array_equal(held.images, held_again.images)
    assert [len(part) for part in hold_out(digits, 3)] == [len(digits) - 3, 3]


def test_hold_out_takes_the_end_of_every_class_so_that_neighbours_stay_together() -> None:
    labels = np.repeat(np.arange(3), [4, 8, 12])
    images = np.zeros((24, 2, 2, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(24)
    _, held = hold_out(ImageSet(images=images, labels=labels, classes=("a", "b", "c"), name="x"), 6)
    assert held.images[:, 0, 0, 0].tolist() == [3, 10, 11, 21, 22, 23]


@pytest.mark.parametrize(("images", "count"), [(7, None), (7, 0), (7, 7), (7, -1)])
def test_hold_out_must_leave_something_on_both_sides(images: int, count: int | None) -> None:
    few = load_dataset("digits", split="test", limit=images)
    with pytest.raises(InputError, match=r"has only 7 images; .* cannot be held out"):
        hold_out(few, count)


@pytest.mark.parametrize(("text", "size"), [("224x160", (224, 160)), ("32", (32, 32)), ("8X9", (8, 9))])
def test_parse_size(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "12x", "0x4", "-3", "1x2x3", "a", "1.5"])
def test_parse_size_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="give HEIGHTxWIDTH in pixels"):
        parse_size(text)


# npz ------------------------------------------------------------------------------------------------------


def test_npz_round_trip_keeps_images_labels_and_classes(tmp_path: Path) -> None:
    images = np.arange(5 * 3 * 2 * 3, dtype=np.uint8).reshape(5, 3, 2, 3)
    original = ImageSet(images=images, labels=np.array([0, 1, 2, 1, 0]), classes=("a", "b", "ç"), name="mine")
    save_npz(tmp_path / "set", original)
    for split in ("train", "test"):
        loaded = load_dataset(f"npz:{tmp_path / 'set'}", split=split)  # type: ignore[arg-type]
        assert np.array_equal(loaded.images, images)
        assert loaded.labels.tolist() == [0, 1, 2, 1, 0]
        assert loaded.classes == ("a", "b", "ç")


def test_npz_grey_images_gain_a_channel_and_classes_default_to_numbers(write_npz: Callable[..., str]) -> None:
    spec = write_npz(images=np.zeros((2, 4, 5), np.uint8), labels=np.array([2, 0], np.uint8))
    loaded = load_dataset(spec, split="train")
    assert loaded.images.shape == (2, 4, 5, 1)
    assert loaded.classes == ("0", "1", "2")
    assert loaded.labels.dtype == np.int64


IMAGES = np.zeros((2, 4, 4, 3), np.uint8)
LABELS = np.array([0, 1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS}, "has no 'images'"),
        ({"images": IMAGES}, "has no 'labels'"),
        ({"images": IMAGES.astype(np.float32), "labels": LABELS}, "images are float32"),
        ({"images": IMAGES[0, 0], "labels": LABELS}, r"images have shape \(4, 3\)"),
        ({"images": np.zeros((2, 4, 4, 4), np.uint8), "labels": LABELS}, r"images have shape \(2, 4, 4, 4\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no pixel"),
        ({"images": IMAGES, "labels": LABELS[:1]}, r"labels have shape \(1,\) for 2 images"),
        ({"images": IMAGES, "labels": LABELS.reshape(1, 2)}, r"labels have shape \(1, 2\)"),
        ({"images": IMAGES, "labels": LABELS.astype(float)}, "labels are float64"),
        ({"images": IMAGES, "labels": np.array([0, -1])}, "label -1 of image 1 is outside"),
        (
            {"images": IMAGES, "labels": np.array([0, 2]), "classes": np.array(["a", "b"])},
            "label 2 of image 1",
        ),
        ({"images": IMAGES, "labels": np.array([0, 10**9])}, "label 1000000000 is no class index"),
        ({"images": IMAGES, "labels": LABELS, "classes": np.array([1, 2])}, "classes are int64"),
        ({"images": IMAGES, "labels": np.array([{}, {}])}, "without unpickling"),
        ({"images": np.array([object(), 1]), "labels": LABELS}, "without unpickling"),
    ],
)
def test_npz_that_does_not_fit(
    arrays: dict[str, object], message: str, write_npz: Callable[..., str]
) -> None:
    spec = write_npz(**arrays)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(spec, split="train")
    assert "set.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_npz_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz: No such file or directory"):
        load_dataset(f"npz:{tmp_path / 'none.npz'}", split="train")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_npz_that_is_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.npz: cannot be read as npz"):
        load_dataset(f"npz:{tmp_path / 'bad.npz'}", split="train")


def test_npz_single_array(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(InputError, match="holds a single array"):
        load_dataset(f"npz:{tmp_path / 'one.npy'}", split="train")


def test_npz_damaged_member(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez_compressed(
        path, images=np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8), labels=np.arange(9)
    )
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"set\.npz"):
        load_dataset(f"npz:{path}", split="train")


def test_save_npz_to_a_missing_folder(tmp_path: Path) -> None:
    images = load_dataset("digits", split="test", limit=1)
    with pytest.raises(InputError, match="No such file or directory"):
        save_npz(tmp_path / "nowhere" / "set.npz", images)


# folder ---------------------------------------------------------------------------------------------------


def test_folder_is_rgb_and_ordered_by_name(class_folders: Path) -> None:
    loaded = load_dataset(f"folder:{class_folders}", split="train")
    assert loaded.images.shape == (5, 4, 6, 3)
    assert loaded.images[:, 0, 0, 0].tolist() == [10, 20, 30, 40, 50]
    assert loaded.labels.tolist() == [0, 0, 0, 1, 1]
    assert loaded.classes == ("cat", "dog")


def test_folder_limit_reads_images_of_both_classes(class_folders: Path) -> None:
    loaded = load_dataset(f"folder:{class_folders}", split="train", limit=3)
    assert loaded.images[:, 0, 0, 0].tolist() == [10, 20, 40]
    assert loaded.labels.tolist() == [0, 0, 1]
    assert loaded.name.endswith("(3 of 5)")


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_folder_splits_share_the_training_classes(class_folders: Path, test_name: str) -> None:
    root = class_folders.parent / "split"
    root.mkdir()
    class_folders.rename(root / "train")
    (root / test_name / "dog").mkdir(parents=True)
    Image.new("RGB", (6, 4), (1, 2, 3)).save(root / test_name / "dog" / "a.bmp")
    (root / test_name / "dog" / ".hidden").write_text("left by a file manager")
    test = load_dataset(f"folder:{root}", split="test")
    assert test.labels.tolist() == [1], "dog keeps its index although the test set has no cat"
    assert test.images[0, 0, 0].tolist() == [1, 2, 3]
    assert len(load_dataset(f"folder:{root}", split="train")) == 5
    (root / test_name / "cow").mkdir()
    Image.new("RGB", (6, 4)).save(root / test_name / "cow" / "a.png")
    with pytest.raises(InputError, match=r"cow: .*train lacks this class"):
        load_dataset(f"folder:{root}", split="test")


def test_folder_with_only_a_train_split_says_what_is_missing(class_folders: Path) -> None:
    root = class_folders.parent / "split"
    root.mkdir()
    class_folders.rename(root / "train")
    with pytest.raises(InputError, match=r"has train/ but no test/ or val/"):
        load_dataset(f"folder:{root}", split="test")


def test_folder_different_sizes_name_file_and_both_sizes(class_folders: Path) -> None:
    Image.new("RGB", (8, 8)).save(class_folders / "dog" / "9.png")
    with pytest.raises(InputError, match=r"9\.png: 8x8 pixels, but 0\.png has 6x4"):
        load_dataset(f"folder:{class_folders}", split="train")
    assert load_dataset(f"folder:{class_folders}", split="train", size=(5, 5)).images.shape == (6, 5, 5, 3)


def test_folder_photograph_is_turned_as_its_tag_says(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.new("RGB", (8, 2)).save(tmp_path / "a" / "turned.jpg", exif=exif)
    assert load_dataset(f"folder:{tmp_path}", split="train").shape_hwc == (8, 2, 3)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_folder_unreadable_image_names_the_file_and_the_remedy(content: bytes, class_folders: Path) -> None:
    (class_folders / "cat" / "broken.png").write_bytes(content)
    with pytest.raises(
        InputError, match=r"broken\.png: not a readable image .*replace the file or remove it"
    ):
        load_dataset(f"folder:{class_folders}", split="train")


def test_folder_truncated_image(class_folders: Path) -> None:
    path = class_folders / "cat" / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(InputError, match=r"cut\.png: not a readable image"):
        load_dataset(f"folder:{class_folders}", split="train")


def test_folder_layouts_that_are_no_class_folders(tmp_path: Path) -> None:
    spec = f"folder:{tmp_path}"
    with pytest.raises(InputError, match="is empty; put the images of each class"):
        load_dataset(spec, split="train")
    Image.new("L", (4, 4)).save(tmp_path / "loose.png")
    with pytest.raises(InputError, match=r"holds files such as loose\.png, no class folders"):
        load_dataset(spec, split="train")
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match=r"loose\.png: an image beside the class folders"):
        load_dataset(spec, split="train")
    (tmp_path / "loose.png").unlink()
    with pytest.raises(InputError, match="cat: the class folder is empty"):
        load_dataset(spec, split="train")
    (tmp_path / "cat" / "more").mkdir()
    with pytest.raises(InputError, match="more: a folder inside a class folder"):
        load_dataset(spec, split="train")


def test_folder_missing_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_dataset(f"folder:{tmp_path / 'none'}", split="train")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        load_dataset(f"folder:{tmp_path / 'file'}", split="train")


# fitting a network ----------------------------------------------------------------------------------------


def test_a_set_fits_a_network_of_its_shape_and_classes() -> None:
    few = load_dataset("digits", split="test", limit=20)
    few.check_fits((32, 32, 1), few.classes)
    few.check_fits((32, 32, 1), [*few.classes, "10"])
    few.check_fits((32, 32, 1), [f"digit {number}" for number in range(10)])
    with pytest.raises(InputError, match=r"images are 32x32 grey, the network takes 28x16 RGB"):
        few.check_fits((16, 28, 3), few.classes)
    with pytest.raises(InputError, match=r"classes \(10: 0, 1, 2, …\) are not the network's \(2: a, b\)"):
        few.check_fits((32, 32, 1), ("a", "b"))
    named = ImageSet(images=few.images, labels=few.labels, classes=tuple("abcdefghij"), name="named")
    with pytest.raises(InputError, match="named: classes"):
        named.check_fits((32, 32, 1), few.classes)
