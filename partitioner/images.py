"""What sending the raw input costs, and real images as inputs of a network.

Decides how an input would really cross the link: an image as uint8 or JPEG, never as fp32; anything else as
it stands.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.partitioner.facts import TensorFact
from isthmus.partitioner.running.execution import Feed, clock_for
from isthmus.partitioner.search import RawInput
from isthmus.runtime.errors import InputError

# JPEG sizes vary between images far more than between many of them and all.
_MOST_IMAGES = 64


def channel_axis(fact: TensorFact) -> int | None:
    """Return the axis of the channels if the input is an image [1,C,H,W] or [1,H,W,C], else None."""
    is_number = fact.dtype == "uint8" or fact.dtype.startswith(("float", "bfloat"))
    if not is_number or fact.shape is None or len(fact.shape) != 4:
        return None
    # Pixels come with channels last, what a normalisation has made of them with channels first.
    order = (3, 1) if fact.dtype == "uint8" else (1, 3)
    return next((axis for axis in order if fact.shape[axis] in (1, 3)), None)


def raw_inputs(inputs: Sequence[TensorFact], jpeg: RawInput | None) -> dict[str, tuple[RawInput, ...]]:
    """Return the ways to send each input: an image a byte a value or as `jpeg`, other tensors as they are.

    Args:
        inputs: Of the network.
        jpeg: What `jpeg_input` says of the one input that is an image, or None.
    """
    found: dict[str, tuple[RawInput, ...]] = {}
    for fact in inputs:
        assert fact.nbytes is not None, "a network's inputs have known shapes"
        if channel_axis(fact) is None:
            found[fact.name] = (RawInput(encoding=fact.dtype, nbytes=fact.nbytes),)
        else:
            plain = RawInput(encoding="uint8", nbytes=fact.elements)
            found[fact.name] = (plain,) if jpeg is None else (plain, jpeg)
    return found


def jpeg_input(
    images_nhwc: NDArray[np.uint8], quality: int, *, device_slower: float, server_slower: float
) -> RawInput:
    """Return what JPEG of `images_nhwc` (uint8 [n,H,W,C], C 1 or 3) takes: mean bytes, mean coding times.

    Args:
        images_nhwc: The images.
        quality: Of the JPEG, 1..95.
        device_slower: How many times slower than this machine the device codes.
        server_slower: Likewise the server.

    Raises:
        InputError: If `quality` is not in 1..95.
    """
    check_quality(quality)
    sample = images_nhwc[:_MOST_IMAGES]
    pixels = sample[..., 0] if sample.shape[3] == 1 else sample
    _jpeg(pixels[0], quality)  # the first call loads the coder
    clock = clock_for(1)
    start = clock.now_s()
    coded = [_jpeg(image, quality) for image in pixels]
    middle = clock.now_s()
    for data in coded:
        np.asarray(Image.open(io.BytesIO(data)))
    end = clock.now_s()
    return RawInput(
        encoding=f"jpeg q{quality}",
        nbytes=round(sum(map(len, coded)) / len(coded)),
        encode_s=(middle - start) / len(coded) * device_slower,
        decode_s=(end - middle) / len(coded) * server_slower,
    )


def check_quality(quality: int) -> None:
    """Check that `quality` is one that JPEG has.

    Raises:
        InputError: If it is not in 1..95.
    """
    if not 1 <= quality <= 95:
        raise InputError(f"JPEG quality {quality} is not in 1..95")


def image_feeds(inputs: Sequence[TensorFact], images_nhwc: NDArray[np.uint8], count: int) -> list[Feed]:
    """Return the first `count` images as inputs: uint8 as they are, floats scaled to [0, 1].

    Raises:
        InputError: If the network does not take one image of this shape.
    """
    if len(inputs) != 1 or (axis := channel_axis(inputs[0])) is None:
        raise InputError(f"images given, but the network's inputs {_shapes(inputs)} are not one image")
    fact = inputs[0]
    laid_out = images_nhwc if axis == 3 else np.moveaxis(images_nhwc, 3, 1)
    if fact.shape is None or laid_out.shape[1:] != fact.shape[1:]:
        raise InputError(
            f"images of shape {list(images_nhwc.shape[1:])} (H, W, C) do not fit the network's input "
            f"{_shapes(inputs)}; resize them"
        )
    values = laid_out if fact.dtype == "uint8" else (laid_out / 255).astype(fact.dtype)
    rows = (values[index : index + 1] for index in range(min(count, len(values))))
    return [{fact.name: np.ascontiguousarray(row)} for row in rows]


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def _shapes(inputs: Sequence[TensorFact]) -> str:
    return ", ".join(f"{fact.name!r} {list(fact.shape or ())}" for fact in inputs)
