"""What the benchmark of heads refuses."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from isthmus.cli.bench import benchmark_folder, load_benchmark
from isthmus.runtime.errors import InputError


def test_images_that_the_network_does_not_take_are_refused_in_one_line(tmp_path):
    load_benchmark(benchmark_folder(), "heads")
    heads = sys.modules["isthmus_benchmark_heads"]
    np.savez(tmp_path / "images.npz", images=np.zeros((4, 16, 16, 1), np.uint8), labels=np.arange(4) % 2)
    spec = f"npz:{tmp_path / 'images.npz'}"

    def network(side: int) -> SimpleNamespace:
        config = SimpleNamespace(input_height=side, input_width=side, input_channels=1, labels=("0", "1"))
        return SimpleNamespace(config=config)

    assert heads._images(network(16), {}, spec, "test", None).shape_hwc == (16, 16, 1)
    with pytest.raises(InputError, match=r"images are 16.*, the network takes 32") as refused:
        heads._images(network(32), {}, spec, "test", None)
    assert "\n" not in str(refused.value)
    brought = heads._images(network(32), {"size": "32x32"}, spec, "test", None)
    assert brought.shape_hwc == (32, 32, 1), "training brought its arrays to a size, so these are too"
