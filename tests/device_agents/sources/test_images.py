"""Images known before the run: they fit the bundle, and truths are indices into its labels."""

import msgspec
import numpy as np
import pytest
from PIL import Image

from isthmus.device_agents.sources import ImageSource, SourceEnded, open_source
from isthmus.device_agents.sources import images as images_module
from isthmus.runtime.bundle import InputSpec
from isthmus.runtime.errors import InputError


@pytest.fixture
def npz(tmp_path):
    def make(**arrays):
        path = tmp_path / "images.npz"
        np.savez(path, **arrays)
        return f"npz:{path}"

    return make


def _grey(count, size=16):
    return np.arange(count * size * size, dtype=np.uint8).reshape(count, size, size)


def test_images_come_in_order_and_start_again(tiny_npz, tiny, tiny_images):
    source = open_source(f"npz:{tiny_npz}", tiny.manifest)
    frames = [source.frame() for _ in range(50)]
    np.testing.assert_array_equal(frames[5][0], tiny_images[0][5])
    np.testing.assert_array_equal(frames[48][0], frames[0][0])
    assert [truth for _, truth in frames[:3]] == [0, 1, 2]
    assert str(tiny_npz) in source.name


def test_classes_are_matched_by_name_not_by_position(npz, tiny):
    spec = npz(images=_grey(3), labels=np.array([0, 1, 1]), classes=np.array(["bottom", "top-left"]))
    source = open_source(spec, tiny.manifest)
    assert [source.frame()[1] for _ in range(3)] == [2, 0, 0]


def test_a_file_without_class_names_holds_indices(npz, tiny):
    source = open_source(npz(images=_grey(3), labels=np.array([2, 0, 1])), tiny.manifest)
    assert [source.frame()[1] for _ in range(3)] == [2, 0, 1]


def test_a_foreign_class_is_refused_by_name(npz, tiny):
    spec = npz(images=_grey(2), labels=np.array([0, 1]), classes=np.array(["bottom", "giraffe"]))
    with pytest.raises(InputError, match=r"'giraffe' is not one of the bundle's labels.*top-left"):
        open_source(spec, tiny.manifest)


def test_more_unnamed_classes_than_labels_are_refused(npz, tiny):
    with pytest.raises(InputError, match="class '0'"):
        open_source(npz(images=_grey(2), labels=np.array([0, 7])), tiny.manifest)


def test_another_size_is_refused_with_both_sizes(npz, tiny):
    with pytest.raises(InputError, match=r"images are 20x20x1 .*tiny takes 16x16x1"):
        open_source(npz(images=_grey(2, 20), labels=np.array([0, 1])), tiny.manifest)


def test_colour_where_grey_is_needed_is_refused(npz, tiny):
    images = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(InputError, match=r"16x16x3 .* takes 16x16x1; give grey images"):
        open_source(npz(images=images, labels=np.array([0, 1])), tiny.manifest)


def test_a_folder_is_scaled_to_the_bundle(tmp_path, tiny):
    for name, level in (("top-left", 10), ("bottom", 200)):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30), (level, level, level)).save(tmp_path / "set" / name / "a.png")
    manifest = msgspec.structs.replace(tiny.manifest, input=InputSpec(height=16, width=16, channels=3))
    source = open_source(f"folder:{tmp_path / 'set'}", manifest)
    image, truth = source.frame()
    assert image.shape == (16, 16, 3)
    assert (image[0, 0, 0], truth) == (200, 2)


@pytest.fixture
def colour(tiny):
    return msgspec.structs.replace(tiny.manifest, input=InputSpec(height=16, width=16, channels=3))


def _paint(folder, *levels):
    folder.mkdir(parents=True, exist_ok=True)
    for index, level in enumerate(levels):
        Image.new("RGB", (40, 30), (level, 0, 0)).save(folder / f"{index:02}.png")


def test_a_folder_without_class_folders_has_no_truths(tmp_path, colour):
    _paint(tmp_path, 10, 200)
    source = open_source(f"folder:{tmp_path}", colour)
    frames = [source.frame() for _ in range(3)]
    assert [(int(image[8, 8, 0]), truth) for image, truth in frames] == [(10, None), (200, None), (10, None)]


def test_a_test_folder_without_classes_is_taken_too(tmp_path, colour):
    _paint(tmp_path / "test", 77)
    source = open_source(f"folder:{tmp_path}", colour)
    assert source.frame()[0][0, 0, 0] == 77
    assert source.name.endswith("(test)")


def test_a_colour_folder_becomes_grey_for_a_grey_bundle(tmp_path, tiny):
    _paint(tmp_path, 200)
    image, _ = open_source(f"folder:{tmp_path}", tiny.manifest).frame()
    assert image.shape == (16, 16, 1)
    assert image[0, 0, 0] == round(0.299 * 200)


def test_a_file_that_is_no_image_among_images_is_named(tmp_path, colour):
    _paint(tmp_path, 1)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"notes\.txt: not an image"):
        open_source(f"folder:{tmp_path}", colour)


def test_a_folder_too_large_for_memory_is_read_during_the_run(tmp_path, colour, monkeypatch, patiently):
    _paint(tmp_path, *range(0, 200, 10))
    monkeypatch.setattr(images_module, "_MOST_IN_MEMORY", 0)
    source = open_source(f"once:folder:{tmp_path}", colour)
    assert [int(image[0, 0, 0]) for image, _ in patiently(source)] == list(range(0, 200, 10))
    source.close()


def test_once_ends_a_source_that_would_loop(tiny_npz, tiny, tiny_images):
    source = open_source(f"once:npz:{tiny_npz}", tiny.manifest)
    for _ in tiny_images[0]:
        source.frame()
    for _ in range(2):
        with pytest.raises(SourceEnded):
            source.frame()


def test_unknown_truths_stay_unknown():
    source = ImageSource("camera", np.zeros((2, 4, 4, 1), np.uint8), [None, 1])
    assert [source.frame()[1] for _ in range(3)] == [None, 1, None]
