import sys

import pytest
import torch

from isthmus.models.allocator import kept_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told")
def test_memory_is_kept_for_a_while_and_computes_the_same() -> None:
    before = torch.arange(1 << 20).sum()
    with kept_memory() as kept:
        assert kept
        assert torch.arange(1 << 20).sum() == before
    assert torch.arange(1 << 20).sum() == before
