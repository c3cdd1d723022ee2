from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from isthmus.models.backbones import MODELS, make_model, randomise
from isthmus.models.cutting import list_cuts, split_at
from isthmus.models.teacher_export import export_onnx

# As published with the weights of these names (torchvision, timm, and the authors of ProxylessNAS).
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "mobilenet-v2": 3_504_872,
    "mobilenet-v2-same": 3_504_872,
    "mobilenet-v3-large": 5_483_032,
    "efficientnet-b0": 5_288_548,
    "squeezenet1.0": 1_248_424,
    "vit-b16": 86_567_656,
    "deit-tiny": 5_717_416,
}
# One tensor of every kind of module: name and shape.
KEYS: dict[str, dict[str, tuple[int, ...]]] = {
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer4.1.bn2.running_var": (512,),
        "fc.weight": (1000, 512),
    },
    "resnet50": {
        "layer1.0.downsample.1.bias": (256,),
        "layer3.5.conv2.weight": (256, 256, 3, 3),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
        "fc.bias": (1000,),
    },
    "densenet121": {
        "features.conv0.weight": (64, 3, 7, 7),
        "features.norm0.running_mean": (64,),
        "features.denseblock3.denselayer24.norm1.weight": (992,),
        "features.denseblock1.denselayer2.conv2.weight": (32, 128, 3, 3),
        "features.transition2.conv.weight": (256, 512, 1, 1),
        "features.norm5.bias": (1024,),
        "classifier.weight": (1000, 1024),
    },
    "mobilenet-v2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.running_var": (16,),
        "features.17.conv.3.bias": (320,),
        "features.18.1.weight": (1280,),
        "classifier.1.weight": (1000, 1280),
    },
    "mobilenet-v3-large": {
        "features.1.block.0.0.weight": (16, 1, 3, 3),
        "features.4.block.2.fc1.weight": (24, 72, 1, 1),
        "features.4.block.2.fc2.bias": (72,),
        "features.4.block.3.0.weight": (40, 72, 1, 1),
        "features.16.0.weight": (960, 160, 1, 1),
        "classifier.0.weight": (1280, 960),
        "classifier.3.bias": (1000,),
    },
    "efficientnet-b0": {
        "features.1.0.block.0.0.weight": (32, 1, 3, 3),
        "features.1.0.block.1.fc1.weight": (8, 32, 1, 1),
        "features.1.0.block.2.0.weight": (16, 32, 1, 1),
        "features.6.3.block.2.fc2.weight": (1152, 48, 1, 1),
        "features.8.1.running_mean": (1280,),
        "classifier.1.bias": (1000,),
    },
    "squeezenet1.0": {
        "features.0.weight": (96, 3, 7, 7),
        "features.12.expand3x3.bias": (256,),
        "classifier.1.weight": (1000, 512, 1, 1),
    },
    "vit-b16": {
        "class_token": (1, 1, 768),
        "conv_proj.weight": (768, 3, 16, 16),
        "encoder.pos_embedding": (1, 197, 768),
        "encoder.layers.encoder_layer_11.self_attention.in_proj_weight": (2304, 768),
        "encoder.layers.encoder_layer_0.self_attention.out_proj.bias": (768,),
        "encoder.layers.encoder_layer_3.mlp.0.weight": (3072, 768),
        "encoder.layers.encoder_layer_3.mlp.3.weight": (768, 3072),
        "encoder.layers.encoder_layer_0.ln_2.weight": (768,),
        "encoder.ln.bias": (768,),
        "heads.head.weight": (1000, 768),
    },
    "deit-tiny": {
        "cls_token": (1, 1, 192),
        "pos_embed": (1, 197, 192),
        "patch_embed.proj.weight": (192, 3, 16, 16),
        "blocks.11.attn.qkv.bias": (576,),
        "blocks.0.attn.proj.weight": (192, 192),
        "blocks.5.mlp.fc2.weight": (192, 768),
        "blocks.5.norm2.bias": (192,),
        "norm.weight": (192,),
        "head.weight": (1000, 192),
    },
}
# Entries of the state dict, counters of norms included.
ENTRIES = {"resnet50": 320, "densenet121": 727, "mobilenet-v2": 314, "efficientnet-b0": 360, "vit-b16": 152}
SMALL = [name for name in MODELS if PARAMETERS.get(name, 0) < 12e6 and not MODELS[name].sized]


@pytest.mark.parametrize(("ref", "parameters"), PARAMETERS.items())
def test_parameter_counts_are_the_published_ones(ref: str, parameters: int) -> None:
    backbone = MODELS[ref]
    with torch.device("meta"):
        network = make_model(ref, backbone.num_classes, backbone.shape_hwc[2])
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(("ref", "keys"), KEYS.items())
def test_parameters_have_the_names_of_published_weights(ref: str, keys: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        state = make_model(ref, 1000, 3).state_dict()
    assert {name: tuple(state[name].shape) for name in keys} == keys
    assert len(state) == ENTRIES.get(ref, len(state))


@pytest.mark.parametrize("ref", SMALL)
def test_any_classes_channels_and_image_size(ref: str) -> None:
    network = make_model(ref, 7, 2).eval()
    assert network(torch.zeros(2, 2, 64, 96)).shape == (2, 7)


@pytest.mark.parametrize(
    ("ref", "cut", "shape_chw"),
    [
        ("resnet18", "layer2", (128, 8, 8)),
        ("resnet50", "layer3.4", (1024, 4, 4)),
        ("densenet121", "features.transition2", (256, 4, 4)),
        ("mobilenet-v2", "features.6", (32, 8, 8)),
        ("mobilenet-v3-large", "features.6", (40, 8, 8)),
        ("efficientnet-b0", "features.4.1", (80, 4, 4)),
        ("squeezenet1.0", "features.7", (256, 7, 7)),
        ("proxyless-w0.3", "blocks.8", (16, 8, 8)),
    ],
)
def test_every_network_can_be_cut_by_its_own_names(
    ref: str, cut: str, shape_chw: tuple[int, int, int]
) -> None:
    network = make_model(ref, 5, 3)
    randomise(network, (3, 64, 64))
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    sites = {name: site for site in list_cuts(network, image) for name in (site.name, *site.aliases)}
    assert sites[cut].shape_chw == shape_chw
    head, tail = split_at(network, cut)
    with torch.no_grad():
        assert torch.allclose(tail(head(image)), network(image), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ref", ["vit-b16", "deit-tiny"])
def test_a_transformer_is_cut_at_its_patches_and_behind_every_block(ref: str) -> None:
    network = make_model(ref, 5, 3, image_size=(32, 48)).eval()
    sites = list_cuts(network, torch.zeros(1, 3, 32, 48))
    assert sites[0].class_tokens is None
    assert len([site for site in sites if site.class_tokens == 1]) >= 12
    assert {site.shape_chw[1:] for site in sites} == {(2, 3)}
    image = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(3))
    head, tail = split_at(network, sites[len(sites) // 2].name)
    with torch.no_grad():
        assert torch.allclose(tail(head(image)), network(image), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ref", MODELS)
def test_every_network_exports_with_a_dynamic_batch(ref: str, tmp_path: Path) -> None:
    backbone = MODELS[ref]
    height, width, channels = backbone.shape_hwc
    network = make_model(ref, backbone.num_classes, channels).eval()
    randomise(network, (channels, height, width))
    images = torch.randn(3, channels, height, width, generator=torch.Generator().manual_seed(1))
    export_onnx(network, images[:1], tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images.numpy()})
    with torch.no_grad():
        expected = network(images).numpy()
    assert np.std(expected[0] - expected[1]) > 0.1 * np.std(expected)
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
