import numpy as np
import pytest

from isthmus.partitioner.facts import TensorFact
from isthmus.partitioner.images import channel_axis, image_feeds, jpeg_input, raw_inputs
from isthmus.partitioner.search import RawInput
from isthmus.runtime.errors import InputError


def fact(*shape: int, dtype: str = "float32") -> TensorFact:
    return TensorFact(
        name="x", dtype=dtype, shape=shape, nbytes=int(np.prod(shape)) * np.dtype(dtype).itemsize
    )


@pytest.mark.parametrize(
    ("tensor", "axis", "nbytes", "encoding"),
    [
        (fact(1, 3, 32, 32), 1, 3072, "uint8"),
        (fact(1, 32, 32, 3, dtype="uint8"), 3, 3072, "uint8"),
        (fact(1, 1, 28, 28), 1, 784, "uint8"),
        (fact(1, 128, dtype="int64"), None, 1024, "int64"),
        (fact(1, 64, 32, 32), None, 4 * 65536, "float32"),
        (fact(1, 1, 28, 3), 1, 84, "uint8"),
        (fact(1, 1, 28, 3, dtype="uint8"), 3, 84, "uint8"),
    ],
)
def test_an_image_is_sent_as_bytes_and_other_input_as_it_is(
    tensor: TensorFact, axis: int | None, nbytes: int, encoding: str
) -> None:
    assert channel_axis(tensor) == axis
    (raw,) = raw_inputs([tensor], None)["x"]
    assert (raw.nbytes, raw.encoding) == (nbytes, encoding)


def test_jpeg_is_a_second_way_for_an_image_and_none_for_a_vector() -> None:
    jpeg = RawInput(encoding="jpeg q90", nbytes=700, encode_s=0.001, decode_s=0.001)
    assert raw_inputs([fact(1, 3, 32, 32)], jpeg)["x"][1] is jpeg
    assert len(raw_inputs([fact(1, 128)], jpeg)["x"]) == 1


def smooth_images(channels: int) -> np.ndarray:
    ramp = np.add.outer(np.arange(32), np.arange(32)) * 3
    return np.broadcast_to(ramp[None, :, :, None], (5, 32, 32, channels)).astype(np.uint8)


def test_jpeg_is_measured_on_the_images() -> None:
    here = {"device_slower": 1.0, "server_slower": 1.0}
    fine, coarse = (jpeg_input(smooth_images(3), q, **here) for q in (95, 20))
    assert coarse.nbytes < fine.nbytes < 3072
    assert coarse.encoding == "jpeg q20"
    assert coarse.encode_s > 0
    assert coarse.decode_s > 0
    slow = jpeg_input(smooth_images(3), 20, device_slower=1000.0, server_slower=1.0)
    assert slow.encode_s > 20 * coarse.encode_s
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1)).astype(np.uint8)
    assert jpeg_input(noise, 95, **here).nbytes > 900
    with pytest.raises(InputError, match=r"JPEG quality 0 is not in 1\.\.95"):
        jpeg_input(noise, 0, **here)


def test_images_become_inputs() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
    (first, _) = image_feeds([fact(1, 3, 4, 6)], images, 2)
    assert first["x"].dtype == np.float32
    np.testing.assert_allclose(first["x"][0], images[0].transpose(2, 0, 1) / 255, rtol=1e-6)
    (pixels,) = image_feeds([fact(1, 4, 6, 3, dtype="uint8")], images, 1)
    np.testing.assert_array_equal(pixels["x"], images[:1])
    with pytest.raises(InputError, match=r"images of shape \[4, 6, 3\] \(H, W, C\) do not fit"):
        image_feeds([fact(1, 3, 6, 4)], images, 1)
    with pytest.raises(InputError, match="are not one image"):
        image_feeds([fact(1, 128, dtype="int64")], images, 1)
