"""The pattern moves, is the same everywhere and fits any bundle."""

import hashlib

import msgspec
import numpy as np
import pytest

from isthmus.device_agents.sources import open_source
from isthmus.device_agents.sources.synthetic import SyntheticSource
from isthmus.runtime.bundle import InputSpec


def test_frames_move_and_use_the_whole_range():
    source = SyntheticSource(InputSpec(height=32, width=48, channels=3))
    frames = [source.frame()[0] for _ in range(40)]
    assert all(frame.shape == (32, 48, 3) and frame.flags.c_contiguous for frame in frames)
    assert len({frame.tobytes() for frame in frames}) == 40
    assert np.ptp(np.stack(frames)) > 200
    # The window walked: what was at (2, 3) is now at the corner.
    np.testing.assert_array_equal(frames[0][2:, 3:], frames[1][:-2, :-3])


def test_it_is_the_same_on_every_machine():
    source = SyntheticSource(InputSpec(height=16, width=16, channels=1))
    digest = hashlib.sha256(b"".join(source.frame()[0].tobytes() for _ in range(5))).hexdigest()
    assert digest.startswith("7e80b01a9670d526")


@pytest.mark.parametrize(
    ("spec", "name"), [("synthetic", "synthetic:16x16"), ("synthetic:48x64", "synthetic:48x64")]
)
def test_any_size_is_fitted_to_the_bundle(tiny, spec, name):
    source = open_source(spec, tiny.manifest)
    image, truth = source.frame()
    assert (image.shape, truth, source.name) == ((16, 16, 1), None, name)


def test_colour_and_oblong_bundles(tiny):
    needed = InputSpec(height=20, width=12, channels=3)
    manifest = msgspec.structs.replace(tiny.manifest, input=needed)
    assert open_source("synthetic:30x30", manifest).frame()[0].shape == (20, 12, 3)
