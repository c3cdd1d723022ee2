import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx
import onnxruntime
import pytest
from onnx import ModelProto

from isthmus.partitioner.costs.lookup import add_profile, describe_machine, node_costs, profile_network
from isthmus.partitioner.network.model import Network, load_network
from isthmus.partitioner.network.work import node_work
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.machines import MachineProfile, load_machine, write_machine


@pytest.fixture(scope="module")
def network(residual_file: Path) -> Network:
    return load_network(residual_file)


@pytest.fixture(scope="module")
def other(residual_model: Callable[..., ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = tmp_path_factory.mktemp("models") / "other.onnx"
    onnx.save(residual_model(blocks=2, channels=12, size=16), path)
    return load_network(path)


@pytest.fixture(scope="module")
def profile(network: Network) -> MachineProfile:
    return profile_network(network, name="bench", threads=1, budget_s=0.4)


def test_a_profile_knows_its_own_network(network: Network, profile: MachineProfile) -> None:
    own = node_costs(network, profile)
    assert own is profile.networks[network.digest]
    assert own.source == "measured"
    assert own.peak_bytes is None or own.peak_bytes > 0
    assert (profile.name, profile.source, profile.threads) == ("bench", "measured", 1)
    assert {speed.operator for speed in profile.operators} >= {"conv", "matmul", "elementwise"}


def test_another_network_is_estimated_and_says_so(other: Network, profile: MachineProfile) -> None:
    estimate = node_costs(other, profile)
    assert (estimate.source, estimate.clock, estimate.rounds) == ("scaled", "none", 0)
    assert estimate.model == "other.onnx"
    assert set(estimate.node_s) == {node.key for node in other.graph.nodes}
    assert math.fsum(estimate.node_s.values()) == pytest.approx(estimate.whole_s)
    conv = profile.speed("conv")
    assert conv is not None
    for key, work in node_work(other).items():
        if work.operator == "conv":
            assert estimate.node_s[key] == conv.seconds(work.flops, work.bytes_moved)


def test_the_estimate_is_of_the_right_size(other: Network, profile: MachineProfile) -> None:
    """A network of the same kind, measured moments later: nearer than a factor of three on a busy machine."""
    measured = profile_network(other, name=None, threads=1, budget_s=0.4).networks[other.digest]
    assert 1 / 3 < node_costs(other, profile).whole_s / measured.whole_s < 3


def test_a_buffer_that_is_only_renamed_is_free(network: Network, profile: MachineProfile) -> None:
    estimate = node_costs(network, msgspec.structs.replace(profile, networks={}))
    assert estimate.node_s["flat"] == 0.0
    assert estimate.node_s["logits"] > 0.0


def test_a_reference_estimates_any_network(network: Network) -> None:
    slow, quick = (node_costs(network, load_machine(name)) for name in ("pi4", "cloud-6700k"))
    assert slow.source == "scaled"
    assert slow.threads is None
    assert slow.whole_s > 3 * quick.whole_s


def test_a_network_that_cannot_be_estimated_names_both(network: Network, profile: MachineProfile) -> None:
    """Nothing stands in for a convolution."""
    speeds = tuple(speed for speed in profile.operators if speed.operator != "conv")
    known = msgspec.structs.replace(profile.networks[network.digest], model="another.onnx")
    bare = msgspec.structs.replace(profile, operators=speeds, networks={"ab" * 32: known})
    with pytest.raises(
        ArtifactError, match=r"^bench: knows another\.onnx, not residual\.onnx, and has no speed of 'conv'"
    ):
        node_costs(network, bare)
    with pytest.raises(ArtifactError, match="knows no network, not residual"):
        node_costs(network, msgspec.structs.replace(bare, networks={}))


def test_costs_of_another_analysis_are_refused(network: Network, profile: MachineProfile) -> None:
    own = profile.networks[network.digest]
    fewer = {key: seconds for key, seconds in own.node_s.items() if key != "stem"}
    stale = msgspec.structs.replace(own, node_s=fewer)
    with pytest.raises(ArtifactError, match=r"do not fit its nodes \(e\.g\. 'stem'\)"):
        node_costs(network, msgspec.structs.replace(profile, networks={network.digest: stale}))


def test_a_profile_holds_several_networks(
    network: Network, other: Network, profile: MachineProfile, tmp_path: Path
) -> None:
    owned = msgspec.structs.replace(profile, memory_bytes=7)
    both = add_profile(owned, profile_network(other, name="x", threads=1, budget_s=0.2), "bench.json")
    assert set(both.networks) == {network.digest, other.digest}
    assert (both.name, both.memory_bytes) == ("bench", 7)
    conv = both.speed("conv")
    assert conv is not None
    assert "residual.onnx, other.onnx" in conv.origin
    write_machine(tmp_path / "bench.json", both)
    assert load_machine(tmp_path / "bench.json") == both
    assert add_profile(both, profile, "bench.json", name="new").name == "new"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("threads", 4, "threads 4, this would be 1"),
        ("processor", "a Pi", "processor 'a Pi', this would be"),
        ("provider", "CUDAExecutionProvider", "provider 'CUDAExecutionProvider', this would be"),
        ("backend", "ONNX Runtime 1.0", "backend 'ONNX Runtime 1.0', this would be"),
        ("source", "scaled", "source 'scaled', this would be 'measured'"),
    ],
)
def test_another_machine_is_refused(field: str, value: object, says: str) -> None:
    here = describe_machine(name=None, threads=1, provider="cpu")
    known = msgspec.structs.replace(here, **{field: value})
    with pytest.raises(ArtifactError, match=f"^bench.json: was made with {says}.*; choose another --out$"):
        add_profile(known, here, "bench.json")


def test_an_accelerator_is_profiled_as_itself(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for CUDA, as no test may need a GPU: sessions ask for it, the wall clock times it."""
    asked: list[list[str]] = []
    real = onnxruntime.InferenceSession

    class Session:
        def __init__(self, model: bytes, options: object, providers: list[str]) -> None:
            asked.append(providers)
            self._session = real(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    machine = profile_network(network, name="gpu", threads=1, provider="auto", budget_s=0.2)
    assert machine.provider == "CUDAExecutionProvider"
    assert machine.backend.endswith("CUDAExecutionProvider")
    assert machine.networks[network.digest].clock == "wall"
    assert asked
    assert all(providers[0] == "CUDAExecutionProvider" for providers in asked)
