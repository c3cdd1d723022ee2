from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from isthmus.models.teacher_export import export_onnx, match_cuts
from isthmus.runtime.errors import InputError


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)) + self.shortcut(x))


class Net(nn.Module):
    """A stem, a stage of two blocks and a classifier: the shapes of names that real backbones have."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.stage = nn.Sequential(Block(4), Block(4))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.stage(self.stem(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
    return net


@pytest.fixture(scope="module")
def net_onnx(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "teacher.onnx"
    export_onnx(net, torch.zeros(1, 1, 16, 16), path)
    return path


def test_the_file_is_portable_and_says_nothing_of_this_machine(net_onnx: Path) -> None:
    model = onnx.load(net_onnx)
    assert model.opset_import[0].version <= 20
    assert model.ir_version <= 10
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    raw = net_onnx.read_bytes()
    assert b"/" + Path(torch.__file__).parts[1].encode() + b"/" not in raw
    assert b"test_teacher_export" not in raw
    assert [file.name for file in net_onnx.parent.iterdir()] == ["teacher.onnx"]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_gives_what_torch_gives(batch: int, net: Net, net_onnx: Path) -> None:
    session = ort.InferenceSession(net_onnx, providers=["CPUExecutionProvider"])
    image = torch.randn(batch, 1, 16, 16, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = net(image).numpy()
    (answer,) = session.run(["logits"], {"image": image.numpy()})
    assert np.ptp(expected) > 0.05, "an output that does not vary proves nothing"
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_the_same_module_gives_the_same_bytes(net: Net, net_onnx: Path, tmp_path: Path) -> None:
    export_onnx(net, torch.zeros(1, 1, 16, 16), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == net_onnx.read_bytes()


def test_tensors_are_matched_to_the_outermost_module(net: Net, net_onnx: Path) -> None:
    model = onnx.load(net_onnx)
    relus = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    assert len(relus) == 3
    assert match_cuts(net, net_onnx, relus) == {relus[0]: "stem", relus[1]: "stage.0", relus[2]: "stage"}


def test_a_tensor_that_no_module_outputs_is_left_out(net: Net, net_onnx: Path) -> None:
    model = onnx.load(net_onnx)
    sums = [node.output[0] for node in model.graph.node if node.op_type == "Add"]
    assert sums
    assert match_cuts(net, net_onnx, sums) == {}


def test_another_networks_weights_match_nothing(net_onnx: Path) -> None:
    torch.manual_seed(1)
    other = Net().eval()
    model = onnx.load(net_onnx)
    assert (
        match_cuts(other, net_onnx, [node.output[0] for node in model.graph.node if node.op_type == "Relu"])
        == {}
    )


def test_errors_name_the_thing(net: Net, net_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no tensor 'nowhere'"):
        match_cuts(net, net_onnx, ["nowhere"])
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xffbad")
    with pytest.raises(InputError, match=r"bad\.onnx: not an ONNX file"):
        match_cuts(net, tmp_path / "bad.onnx", [])
    with pytest.raises(InputError, match="Sequential does not take images"):
        match_cuts(nn.Sequential(nn.Conv2d(3, 1, 3)), net_onnx, [])
    with pytest.raises(InputError, match="Branching cannot be exported to ONNX"):
        export_onnx(Branching(), torch.ones(1, 1, 4, 4), tmp_path / "x.onnx")
    with pytest.raises(InputError, match="FixedBatch"):
        export_onnx(FixedBatch(), torch.ones(1, 1, 4, 4), tmp_path / "x.onnx")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another place"):
        export_onnx(net, torch.zeros(1, 1, 16, 16), tmp_path / "file" / "x.onnx")
