import pytest
import torch
from torch import fx, nn

from isthmus.models.backbones import make_model
from isthmus.models.backbones.random_weights import randomise
from isthmus.models.cutting import split_in_order
from isthmus.models.folding import folded


def _segments(model: str, cut: str, side: int) -> tuple[list[fx.GraphModule], torch.Tensor]:
    network = make_model(model, 10, 3, image_size=(side, side))
    randomise(network, (3, side, side))
    generator = torch.Generator().manual_seed(0)
    return split_in_order(network.eval(), (cut,)), torch.randn(2, 3, side, side, generator=generator)


@pytest.mark.parametrize(("model", "cut"), [("cifar-resnet20", "layer2"), ("mobilenet-v2", "features.6")])
def test_folded_segments_compute_the_same_forward_and_backward(model: str, cut: str) -> None:
    segments, x_nchw = _segments(model, cut, 32)
    x_nchw = x_nchw.contiguous(memory_format=torch.channels_last)
    results = []
    for parts in (segments, folded(segments, torch.float32)):
        x = x_nchw.clone().requires_grad_()
        answer = parts[1](parts[0](x))
        answer.square().sum().backward()
        results.append((answer.detach(), x.grad))
    assert results[0][0].std() > 1e-3
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-3, atol=1e-4)
    slopes = [slope for _, slope in results]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-2, atol=1e-3 * float(slopes[0].abs().max()))


def test_no_batch_norm_and_no_strided_depthwise_convolution_is_left() -> None:
    segments, _ = _segments("mobilenet-v2", "features.6", 32)
    layers = [layer for part in folded(segments, torch.bfloat16) for layer in part.modules()]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    depthwise = [layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert depthwise
    assert all(layer.stride == (1, 1) for layer in depthwise)
    assert all(value.dtype == torch.bfloat16 for layer in layers for value in layer.parameters())


def test_the_network_itself_is_not_touched() -> None:
    segments, x_nchw = _segments("cifar-resnet20", "layer2", 32)
    before = segments[0](x_nchw)
    assert all(not value.requires_grad for value in folded(segments, torch.bfloat16)[0].parameters())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in segments[0].modules())
    assert torch.equal(segments[0](x_nchw), before)
    assert any(value.requires_grad for value in segments[0].parameters())


class _Shared(nn.Module):
    """The convolution's output is read by the norm and by something else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        nn.init.uniform_(self.norm.running_mean)

    def forward(self, x_nchw: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(x_nchw)
        result: torch.Tensor = self.norm(hidden) + hidden
        return result


def test_what_something_else_reads_is_not_folded() -> None:
    module = fx.symbolic_trace(_Shared().eval())
    x_nchw = torch.randn(2, 3, 8, 8)
    (same,) = folded([module], torch.float32)
    torch.testing.assert_close(same(x_nchw), module(x_nchw))
