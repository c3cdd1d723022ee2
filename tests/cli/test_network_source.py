from pathlib import Path

import pytest

from isthmus.cli._network_source import network_source
from isthmus.partitioner.network.model import load_network
from isthmus.runtime.errors import InputError

NETWORK = '''
import torch
from torch import nn


class Net(nn.Module):
    """Its forward asks for a size, which the exporter follows and torch.fx does not."""

    def __init__(self, classes, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4, classes)

    def forward(self, x):
        x = torch.relu(self.first(x))
        if x.shape[-1] > 4:
            x = nn.functional.avg_pool2d(x, 2)
        return self.last(torch.relu(self.second(x)).mean((2, 3)))


class Plain(Net):
    def forward(self, x):
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


def asking(num_classes, in_channels):
    return Net(num_classes, in_channels)


def plain(num_classes, in_channels):
    return Plain(num_classes, in_channels)
'''


@pytest.fixture(scope="module")
def user_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("user") / "net.py"
    path.write_text(NETWORK)
    return path


def test_a_factory_in_a_file_is_exported(user_file: Path) -> None:
    with network_source(None, f"{user_file}:plain", None, None, 5, "8x8x3") as source:
        network = load_network(source.path)
        assert {"first", "second"} <= {*(source.modules or {}).values()}
        assert network.graph.tensors[network.graph.outputs[0]].shape == (1, 5)
        assert network.dynamic_batch
        assert source.path.name == "net.onnx"
    assert not source.path.exists()


def test_a_forward_that_cannot_be_traced_can_still_be_cut(
    user_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with network_source(None, f"{user_file}:asking", None, None, 5, "8x8x3") as source:
        assert source.modules == {}
        assert len(load_network(source.path).graph.interior_cuts()) >= 4
    assert "no place for a trained bottleneck: Net cannot be traced by torch.fx" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("file", "model", "classes", "image", "message"),
    [
        (None, None, None, None, "give either MODEL.onnx or --model NAME, one of them"),
        (Path("m.onnx"), None, 5, None, "belong to --model, not to an ONNX file"),
        (None, "digits-cnn", None, None, "--model needs --dataset, or --classes N with --image HxWxC"),
        (None, "digits-cnn", 5, "8x8", "--image '8x8': give height, width and channels, e.g. 32x32x3"),
        (None, "none.py:factory", 5, "8x8x1", "none.py: no such file; give --model path/to/file.py:factory"),
    ],
)
def test_what_names_no_network(
    file: Path | None, model: str | None, classes: int | None, image: str | None, message: str
) -> None:
    with pytest.raises(InputError) as caught, network_source(file, model, None, None, classes, image):
        pass
    assert message in str(caught.value)
