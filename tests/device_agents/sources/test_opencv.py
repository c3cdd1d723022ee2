"""OpenCV's part: a stand-in for the module first, then the real one where it is installed."""

import importlib.util
import sys
import types
from typing import ClassVar

import numpy as np
import pytest

from isthmus.device_agents.sources import SourceEnded, open_source
from isthmus.runtime.errors import InputError, MissingExtraError


class FakeCapture:
    """What `cv2.VideoCapture` is to us; `plan[address]` lists its frames (BGR)."""

    plan: ClassVar[dict] = {}
    opened: ClassVar[list] = []

    def __init__(self, address):
        self.opened.append(address)
        self._frames = iter(self.plan[address]) if address in self.plan else None

    def isOpened(self):  # noqa: N802
        return self._frames is not None

    def set(self, name, value):
        return True

    def read(self):
        image = next(self._frames, None)
        return image is not None, image

    def release(self):
        self._frames = iter(())


@pytest.fixture
def fake_cv2(monkeypatch):
    module = types.ModuleType("cv2")
    FakeCapture.plan, FakeCapture.opened = {}, []
    module.VideoCapture, module.CAP_PROP_BUFFERSIZE = FakeCapture, 38
    monkeypatch.setitem(sys.modules, "cv2", module)
    return FakeCapture


def _blue(count, size=(24, 32)):
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = 200
    return [image.copy() for _ in range(count)]


@pytest.mark.parametrize(
    ("spec", "address"),
    [
        ("camera:0", 0),
        ("camera:rtsp://host:554/x", "rtsp://host:554/x"),
        ("camera:/dev/video2", "/dev/video2"),
    ],
)
def test_an_index_is_a_number_and_the_rest_an_url(fake_cv2, tiny, patiently, spec, address):
    fake_cv2.plan = {address: _blue(2)}
    source = open_source(spec, tiny.manifest)
    (image, truth), *_ = patiently(source, 1)
    source.close()
    assert fake_cv2.opened[0] == address
    assert (image.shape, truth) == ((16, 16, 1), None)
    assert image[0, 0, 0] == round(0.114 * 200)  # as blue as a grey network sees it: BGR was turned round
    assert source.name == spec


def test_a_video_gives_every_frame_and_ends(fake_cv2, tiny, tmp_path, patiently):
    file = tmp_path / "clip.avi"
    file.touch()
    fake_cv2.plan = {str(file): _blue(12)}
    source = open_source(f"video:{file}", tiny.manifest)
    assert len(patiently(source)) == 12
    with pytest.raises(SourceEnded):
        source.frame()


def test_a_looped_video_begins_again(fake_cv2, tiny, tmp_path, patiently):
    file = tmp_path / "clip.avi"
    file.touch()
    fake_cv2.plan = {str(file): _blue(3)}
    source = open_source(f"loop:video:{file}", tiny.manifest)
    assert len(patiently(source, 8)) == 8
    source.close()


def test_a_video_that_is_none_is_one_line(fake_cv2, tiny, tmp_path):
    with pytest.raises(InputError, match=r"clip\.avi: no such file"):
        open_source(f"video:{tmp_path / 'clip.avi'}", tiny.manifest)
    (tmp_path / "clip.avi").write_text("x")
    with pytest.raises(InputError, match="cannot decode it"):
        open_source(f"video:{tmp_path / 'clip.avi'}", tiny.manifest)


@pytest.mark.parametrize("spec", ["camera:0", "video:clip.avi"])
def test_without_opencv_the_extra_is_named(tiny, monkeypatch, spec):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"isthmus\[camera\]"):
        open_source(spec, tiny.manifest)


@pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed (extra 'camera')"
)
def test_a_real_video_file(tiny, tmp_path, patiently):
    import cv2

    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write MJPEG")
    levels = list(range(20, 220, 10))
    for level in levels:
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    source = open_source(f"video:{file}", tiny.manifest)
    frames = patiently(source)
    assert len(frames) == len(levels)
    shown = [float(image.mean()) for image, _ in frames]
    assert shown == pytest.approx(levels, abs=3)
