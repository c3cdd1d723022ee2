import numpy as np

from isthmus.runtime.bundle import LatentSpec
from isthmus.runtime.server.latents import assemble

SPEC = LatentSpec(channels=3, height=1, width=2, zero_points=(10, 20, 30))


def test_absent_channels_get_their_own_zero_point():
    one = np.array([[[1, 2]]], np.uint8)
    two = np.array([[[3, 4]], [[5, 6]]], np.uint8)
    full = np.array([[[7, 8]], [[9, 0]], [[1, 2]]], np.uint8)
    batch = assemble([one, two, full], SPEC)
    assert batch.dtype == np.uint8
    assert batch.tolist() == [
        [[[1, 2]], [[20, 20]], [[30, 30]]],
        [[[3, 4]], [[5, 6]], [[30, 30]]],
        [[[7, 8]], [[9, 0]], [[1, 2]]],
    ]
