"""Cameras and video files through OpenCV, which is an optional extra and loaded only here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.sources.live import Camera
from isthmus.runtime.errors import InputError, MissingExtraError

# OpenCV's log levels: what it says on standard error beside our own one line.
_LOG_SILENT = 0


class OpenCvCamera:
    """An open `VideoCapture`."""

    def __init__(self, capture: Any) -> None:
        self._capture = capture

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for the next frame and return it, uint8 [height, width, 3] RGB; None at the end."""
        found, image_bgr = self._capture.read()
        if not found or image_bgr is None:
            return None
        if image_bgr.ndim == 2:  # a monochrome sensor
            return np.repeat(image_bgr[..., np.newaxis], 3, axis=2)
        image_rgb: NDArray[np.uint8] = image_bgr[..., 2::-1]  # also drops a fourth channel
        return image_rgb

    def close(self) -> None:
        """Let go of the device or file."""
        self._capture.release()


def open_camera(address: str) -> Camera | None:
    """Return the camera at `address`, an index such as `0` or an URL; None if it cannot be opened now.

    Raises:
        MissingExtraError: If OpenCV is not installed.
    """
    cv2 = load_opencv("the source 'camera'")
    capture = cv2.VideoCapture(int(address) if address.isdecimal() else address)
    if not capture.isOpened():
        capture.release()
        return None
    # Newest wins: a driver that honours this keeps no queue of its own.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return OpenCvCamera(capture)


def video_frames(file: Path, spec: str) -> Iterator[NDArray[np.uint8]]:
    """Yield every frame of a video file, uint8 [height, width, 3] RGB.

    Raises:
        InputError: If the file is missing or OpenCV cannot decode it.
        MissingExtraError: If OpenCV is not installed.
    """
    cv2 = load_opencv("the source 'video'")
    if not file.is_file():
        raise InputError(f"source {spec}: {'is a folder' if file.is_dir() else 'no such file'}; give a video")
    capture = cv2.VideoCapture(str(file))
    camera = OpenCvCamera(capture)
    try:
        if not capture.isOpened():
            raise InputError(
                f"source {spec}: OpenCV cannot decode it; convert it, for example to MJPEG or H.264"
            )
        while (image := camera.read()) is not None:
            yield image
    finally:
        camera.close()


def load_opencv(feature: str) -> Any:
    """Return the module `cv2`, told to be quiet.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import cv2
    except ModuleNotFoundError:
        raise MissingExtraError(feature, "camera") from None
    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(_LOG_SILENT)
    return cv2
