from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isthmus.runtime.bundle import EXIT, LOCAL, TAIL, Bundle, load_bundle
from isthmus.runtime.bundle.networks import Network, open_networks, with_absent
from isthmus.runtime.errors import BundleError


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def test_batches_give_what_single_inputs_give(bundle: Bundle) -> None:
    latents = np.random.default_rng(0).integers(0, 256, (130, 4, 4, 4), dtype=np.uint8)  # three batches
    tail = Network(TAIL, bundle.read(TAIL), threads=1)
    together = tail.run(latents)
    assert together.shape == (130, 3)
    singly = np.concatenate([tail.run_batch(latents[index : index + 1]) for index in (0, 63, 64, 129)])
    np.testing.assert_allclose(together[[0, 63, 64, 129]], singly, rtol=1e-5)


def test_what_onnx_runtime_refuses_is_one_line(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"tail\.onnx: ONNX Runtime cannot load it"):
        Network(TAIL, b"junk")
    tail = Network(TAIL, bundle.read(TAIL))
    with pytest.raises(BundleError, match=r"tail\.onnx: does not take uint8 \(2, 9, 4, 4\)") as caught:
        tail.run(np.zeros((2, 9, 4, 4), np.uint8))
    assert "\n" not in str(caught.value)


def test_optional_networks_follow_the_files(bundle: Bundle) -> None:
    full = open_networks(bundle.manifest, bundle.manifest.files, bundle.read, threads=1)
    assert [head.name for head in full.heads] == [
        f"heads/w{width}.onnx" for width in ("025", "050", "075", "100")
    ]
    assert (full.tail.name, full.exit and full.exit.name, full.local and full.local.name) == (
        TAIL,
        EXIT,
        LOCAL,
    )
    bare = open_networks(bundle.manifest, [], bundle.read, threads=1)
    assert bare.exit is None
    assert bare.local is None


def test_absent_channels_rest_at_their_zero_points() -> None:
    latent = np.full((2, 3, 1, 2), 9, np.uint8)
    filled = with_absent(latent, 1, (5, 6, 7))
    assert filled[0].tolist() == [[[9, 9]], [[6, 6]], [[7, 7]]]
    assert np.array_equal(with_absent(latent, 3, (5, 6, 7)), latent)
    assert latent.min() == 9, "the original is untouched"
