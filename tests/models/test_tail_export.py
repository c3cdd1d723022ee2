"""What torch computes, the written graph computes; what it cannot say is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.models.tail_export import write_tail
from isthmus.runtime.bundle.aten_graph import build
from isthmus.runtime.errors import GateError, InputError


class _Tail(nn.Module):
    """Convolution, normalisation, attention: what tails are made of."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.linear = nn.Linear(8, 3)
        self.register_buffer("zero_points", torch.arange(4.0).reshape(1, 4, 1, 1))

    def forward(self, latent):
        x = (latent.to(torch.float32) - self.zero_points) * 0.1
        x = torch.relu(self.norm(self.convolution(x))).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.linear(nn.functional.gelu(x).mean(1))


class _Branching(_Tail):
    def forward(self, latent):
        return super().forward(latent) if latent.sum() > 7 else super().forward(latent) * 2


@pytest.fixture
def latents():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 4, 4, 4), dtype=np.uint8))


def test_the_file_computes_what_the_module_does_at_any_batch_size(tmp_path, latents):
    torch.manual_seed(0)
    module = _Tail().eval()
    path = tmp_path / "tail.aten.npz"
    write_tail(module, latents, path)
    built = build(path.read_bytes(), where="tail", device="cpu")
    with torch.no_grad():
        for count in (1, 2, 5):
            expected = module(latents[:count])
            torch.testing.assert_close(built(latents[:count]), expected)
        assert expected.std(0).min() > 1e-3, "outputs that do not vary would prove nothing"


def test_control_flow_is_refused_in_one_line(tmp_path, latents):
    with pytest.raises(
        InputError, match=r"^_Branching cannot be exported for the torch backend \("
    ) as refused:
        write_tail(_Branching().eval(), latents, tmp_path / "tail.aten.npz")
    assert "\n" not in str(refused.value)


def test_a_file_that_computes_something_else_is_not_shipped(tmp_path, latents, monkeypatch):
    module = _Tail().eval()
    monkeypatch.setattr("isthmus.models.tail_export.build", lambda *_, **__: lambda x: module(x) + 1.0)
    with pytest.raises(GateError, match="differs from torch by"):
        write_tail(module, latents, tmp_path / "tail.aten.npz")
    assert not (tmp_path / "tail.aten.npz").exists()
