from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from isthmus.models.design import BottleneckSize, design
from isthmus.models.export import default_name, export_bundle
from isthmus.models.network import SplitNetwork
from isthmus.runtime.bundle import (
    EXIT,
    LOCAL,
    TAIL,
    TAIL_ATEN,
    Bundle,
    OperatingPoint,
    head_name,
    load_bundle,
)
from isthmus.runtime.bundle.aten_graph import build
from isthmus.runtime.bundle.networks import open_networks, with_absent
from isthmus.runtime.codecs import FrequencyTables, encode_payload
from isthmus.runtime.datasets import ImageSet, hold_out, load_dataset
from isthmus.runtime.errors import ArtifactError, GateError, InputError
from isthmus.runtime.golden import verify


@pytest.fixture(scope="module")
def train_images() -> ImageSet:
    return load_dataset("digits", split="train", limit=160)


@pytest.fixture(scope="module")
def unseen_images() -> ImageSet:
    return load_dataset("digits", split="test", limit=40)


@pytest.fixture(scope="module")
def network(train_images: ImageSet) -> SplitNetwork:
    """Return a calibrated network of two widths with random weights, large enough that its answers vary."""
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Conv2d(1, 8, 5, 4, 2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    config = design(
        "digits-cnn",
        teacher,
        cut="1",
        shape_hwc=train_images.shape_hwc,
        labels=train_images.classes,
        size=BottleneckSize(
            channels=4,
            channel_counts=(1, 4),
            encoder=((8, 0), (8, 0)),
            decoder_channels=8,
            decoder_blocks=1,
            exit_channels=4,
            widths=(0.5, 1.0),
        ),
    )
    network = SplitNetwork(config, teacher)
    network.calibrate([torch.from_numpy(train_images.images)])
    return network.eval()


@pytest.fixture(scope="module")
def messages() -> list[str]:
    return []


@pytest.fixture(scope="module")
def bundle(
    network: SplitNetwork,
    train_images: ImageSet,
    unseen_images: ImageSet,
    messages: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    return export_bundle(
        network,
        tmp_path_factory.mktemp("export") / "bundle",
        train=train_images,
        test=unseen_images,
        name="small",
        facts={"held_out": "24", "seed": "0"},
        local=True,
        progress=messages.append,
    )


def test_the_bundle_is_complete_and_reproducible(bundle: Bundle, messages: list[str]) -> None:
    assert load_bundle(bundle.root).digest == bundle.digest
    report = verify(bundle)
    assert report.payloads == 4 * 4 * 2
    assert {name for name in bundle.manifest.files if name.endswith("onnx")} == {
        head_name(0.5),
        head_name(1.0),
        TAIL,
        EXIT,
        LOCAL,
    }
    assert [path.name for path in bundle.root.parent.iterdir()] == ["bundle"], "nothing is left beside it"
    assert messages[0].startswith("heads/w050.onnx")
    assert messages[-1] == "verifying"


def test_the_manifest_says_what_the_network_is(bundle: Bundle, network: SplitNetwork) -> None:
    manifest = bundle.manifest
    assert manifest.name == "small"
    assert manifest.labels == network.config.labels
    assert manifest.points == tuple(OperatingPoint(width, count) for width in (0, 1) for count in (1, 4))
    assert (manifest.latent.channels, manifest.latent.height, manifest.latent.width) == (4, 8, 8)
    assert manifest.latent.zero_points == (128,) * 4
    assert manifest.codecs[0] == "rans"
    assert manifest.provenance["train_seed"] == "0"
    assert 0 <= float(manifest.provenance["test_teacher_accuracy"]) <= 1


@pytest.mark.parametrize("name", [head_name(0.5), head_name(1.0), TAIL, EXIT, LOCAL])
def test_graphs_are_portable(name: str, bundle: Bundle) -> None:
    model = onnx.load(bundle.root / name)
    assert model.opset_import[0].version <= 20
    assert model.ir_version <= 10
    assert model.graph.input[0].name == ("latent" if name in (TAIL, EXIT) else "image")
    assert model.graph.output[0].name == ("latent" if name.startswith("heads/") else "logits")
    for value in (model.graph.input[0], model.graph.output[0]):
        assert value.type.tensor_type.shape.dim[0].dim_param, "the batch is dynamic"
    assert not model.metadata_props
    assert not any(node.metadata_props for node in model.graph.node)
    if name.startswith("heads/"):
        operators = {node.op_type for node in model.graph.node}
        assert not operators & {"BatchNormalization", "Slice"}, "materialised and folded"


def test_tables_come_from_training_images_and_utilities_from_held_out_ones(
    bundle: Bundle, train_images: ImageSet
) -> None:
    rest, held = hold_out(train_images, 24)
    networks = open_networks(bundle.manifest, bundle.manifest.files, bundle.read, threads=1)
    tables = FrequencyTables.fit([head.run(rest.images) for head in networks.heads])
    assert bundle.read("tables.npz") == tables.to_bytes()
    assert bundle.manifest.table_id == tables.table_id
    assert bundle.points.measured_on == held.name
    record = bundle.points.records[1]
    latents = networks.heads[0].run(held.images)
    logits = networks.tail.run(with_absent(latents, 4, bundle.manifest.latent.zero_points))
    assert record.utility == float((logits.argmax(axis=1) == held.labels).mean())
    sizes = [len(encode_payload(latent, codec="rans", width_index=0, tables=tables)) for latent in latents]
    assert record.bytes_mean == pytest.approx(np.mean(sizes))
    assert record.bytes_max == max(sizes)
    assert record.bytes_mean <= record.bytes_p95 <= record.bytes_max


def test_fewer_channels_cost_fewer_bytes_and_every_time_is_measured(bundle: Bundle) -> None:
    narrow, full = bundle.points.records[:2]
    assert narrow.bytes_mean < full.bytes_mean
    times = [record.head_s for record in bundle.points.records] + [bundle.points.tail_s or 0.0]
    assert bundle.points.local is not None
    assert [answer.width_index for answer in bundle.points.exits] == [0, 1]
    times += [answer.compute_s for answer in (*bundle.points.exits, bundle.points.local)]
    assert all(0 < seconds < 1 for seconds in times)
    assert "1 thread" in bundle.points.host
    assert bundle.points.local.utility == bundle.points.teacher_utility, "local.onnx is the uncut network"


@pytest.fixture
def fast_export(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """Copy the graphs of `bundle` instead of exporting them again."""

    def copy(module: nn.Module, example: torch.Tensor, path: Path, **_names: str) -> None:
        name = path.relative_to(
            next(part for part in path.parents if part.name.endswith(".partial"))
        ).as_posix()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((bundle.root / name).read_bytes())

    monkeypatch.setattr("isthmus.models.graphs.export_module", copy)


@pytest.mark.usefixtures("fast_export")
def test_a_training_that_held_nothing_out_is_said_so(
    network: SplitNetwork, train_images: ImageSet, unseen_images: ImageSet, tmp_path: Path
) -> None:
    seen = export_bundle(network, tmp_path / "a", train=train_images)
    assert seen.points.measured_on.endswith("seen in training")
    assert seen.manifest.name == "digits-cnn"
    assert not seen.has(LOCAL)
    other = export_bundle(network, tmp_path / "b", train=train_images, calibration=unseen_images)
    assert other.points.measured_on == unseen_images.name
    assert other.manifest.provenance["tables_fitted_on"].startswith(train_images.name)


@pytest.mark.usefixtures("fast_export")
def test_a_file_that_computes_something_else_is_not_shipped(
    network: SplitNetwork, train_images: ImageSet, tmp_path: Path
) -> None:
    quantiser = network.quantiser.log_scale
    original = quantiser.detach().clone()
    try:
        with torch.no_grad():
            quantiser += 0.05  # the copied graphs are now of another network
        with pytest.raises(GateError, match=r"heads/w050\.onnx: .* of the symbols differ from torch"):
            export_bundle(network, tmp_path / "out", train=train_images)
    finally:
        with torch.no_grad():
            quantiser.copy_(original)
    assert list(tmp_path.iterdir()) == [], "a refused export leaves nothing behind"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": np.zeros((160, 16, 16, 1), np.uint8)},
            "images are 16x16 grey, the network takes 32x32 grey",
        ),
        ({"classes": tuple("abcdefghij")}, r"classes \(10: a, b, c, …\) are not the network's"),
    ],
)
def test_images_that_do_not_fit(
    change: dict[str, Any], message: str, network: SplitNetwork, train_images: ImageSet, tmp_path: Path
) -> None:
    fields = {name: getattr(train_images, name) for name in ("images", "labels", "classes", "name")}
    with pytest.raises(InputError, match=message):
        export_bundle(network, tmp_path / "out", train=ImageSet(**{**fields, **change}))


def test_a_name_that_cannot_travel(network: SplitNetwork, train_images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name 'a b'"):
        export_bundle(network, tmp_path / "out", train=train_images, name="a b")


def test_a_checkpoint_that_held_out_nonsense(
    network: SplitNetwork, train_images: ImageSet, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="held 'many' images out"):
        export_bundle(network, tmp_path / "out", train=train_images, facts={"held_out": "many"})
    with pytest.raises(InputError, match="has only 160 images; 500 cannot be held out"):
        export_bundle(network, tmp_path / "out", train=train_images, facts={"held_out": "500"})


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("cifar-resnet56", "cifar-resnet56"),
        ("nets/my.py:build_it", "build_it"),
        ("x.py:_net", "net"),
        ("é", "model"),
    ],
)
def test_default_name(ref: str, name: str) -> None:
    assert default_name(ref) == name


def test_a_torch_tail_answers_as_the_onnx_one_does(
    network: SplitNetwork, train_images: ImageSet, tmp_path: Path
) -> None:
    bundle = export_bundle(network, tmp_path / "bundle", train=train_images, torch_tail=True)
    built = build(bundle.read(TAIL_ATEN), where=TAIL_ATEN, device="cpu")
    networks = open_networks(bundle.manifest, bundle.manifest.files, bundle.read)
    latents = networks.heads[-1].run(train_images.images[:5])
    with torch.no_grad():
        found = built(torch.from_numpy(latents)).numpy()
    np.testing.assert_allclose(found, networks.tail.run(latents), rtol=1e-3, atol=1e-4)
    assert np.ptp(found, axis=0).max() > 1e-3


def test_images_of_other_classes_are_measured_by_agreement_and_say_so(
    network: SplitNetwork, train_images: ImageSet, tmp_path: Path
) -> None:
    animals = ImageSet(
        images=train_images.images,
        labels=train_images.labels % 2,
        classes=("cat", "dog"),
        name="animals",
    )
    out = tmp_path / "bundle"
    points = export_bundle(network, out, train=animals, facts={"held_out": "24"}, local=True).points
    assert points.measured_on.startswith("24 held out of animals, agreement with the uncut network")
    assert points.teacher_utility == 1.0
    assert points.local is not None
    assert points.local.utility == 1.0, "the exported uncut network agrees with itself"
    assert all(record.utility < 1.0 for record in points.records)
