"""The words of `--source`, and which source each opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.sources.images import open_arrays, open_folder
from isthmus.device_agents.sources.live import LiveSource
from isthmus.device_agents.sources.opencv import load_opencv, open_camera, video_frames
from isthmus.device_agents.sources.read_ahead import ReadAhead
from isthmus.device_agents.sources.source import OpenSource, fit
from isthmus.device_agents.sources.synthetic import SyntheticSource
from isthmus.runtime.bundle import InputSpec, Manifest
from isthmus.runtime.datasets import parse_size
from isthmus.runtime.errors import InputError

SOURCE_HELP = "camera:0, camera:rtsp://…, video:FILE, folder:DIR, npz:FILE, synthetic[:HxW] or digits"


def open_source(spec: str, manifest: Manifest, *, note: Callable[[str], None] | None = None) -> OpenSource:
    """Open what `spec` names as a source for the bundle described by `manifest`.

    Images of folders, arrays and `digits` come again after the last one, a video ends; a prefix `loop:` or
    `once:` says otherwise (`loop:video:clip.mp4`).

    Args:
        spec: See `SOURCE_HELP`.
        manifest: What the frames must fit.
        note: Told in one line when a camera is lost and when it is back; called on another thread.

    Raises:
        InputError: If `spec` is none of these, cannot be opened, or does not fit the bundle's input.
        MissingExtraError: If it needs a library that is not installed.
    """
    repeat, rest = _repeat(spec)
    kind, colon, detail = rest.partition(":")
    if kind == "camera" and detail and repeat is None:
        load_opencv("the source 'camera'")
        return LiveSource(
            rest, partial(open_camera, detail), lambda image: fit(image, manifest.input), note=note
        )
    if kind == "synthetic" and (detail or not colon) and repeat is None:
        return SyntheticSource(manifest.input, parse_size(detail) if detail else None)
    if kind == "video" and detail:
        file = Path(detail).expanduser()
        return ReadAhead(rest, partial(_fitted, file, rest, manifest.input), loop=repeat is True)
    if kind == "folder" and detail:
        return open_folder(rest, manifest, loop=repeat is not False)
    if (kind == "npz" and detail) or rest == "digits":
        return open_arrays(rest, manifest, loop=repeat is not False)
    raise InputError(
        f"source {spec!r}: give {SOURCE_HELP}; 'once:' or 'loop:' before all but the endless ones"
    )


def _repeat(spec: str) -> tuple[bool | None, str]:
    for prefix, repeat in (("loop:", True), ("once:", False)):
        if spec.startswith(prefix):
            return repeat, spec.removeprefix(prefix)
    return None, spec


def _fitted(file: Path, spec: str, needed: InputSpec) -> Iterator[tuple[NDArray[np.uint8], int | None]]:
    for image in video_frames(file, spec):
        yield fit(image, needed), None
