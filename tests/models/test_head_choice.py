from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.models import head_choice
from isthmus.models.export import export_bundle
from isthmus.models.head_choice import Int8Figures, _choice
from isthmus.models.network import SplitNetwork
from isthmus.runtime.bundle.networks import open_networks
from isthmus.runtime.codecs import FrequencyTables
from isthmus.runtime.datasets import ImageSet, hold_out
from isthmus.runtime.errors import InputError


def figures(entry: str, speedup: float, loss: float) -> Int8Figures:
    return Int8Figures(entry=entry, speedup=speedup, loss=loss, margin=0.001, agreement=0.99)


def test_the_fastest_accurate_one_is_shipped() -> None:
    found = {"a": figures("a", 2.5, 0.01), "b": figures("b", 2.0, 0.003), "c": figures("c", 1.8, -0.01)}
    choice = _choice("h", found, "auto")
    assert (choice.precision, choice.figures) == ("int8", found["b"])
    assert str(choice) == "h int8: 2.00 times as fast, loses 0.30 ± 0.10 points"


def test_an_inaccurate_one_never_is() -> None:
    for wanted in ("auto", "int8"):
        choice = _choice("h", {"a": figures("a", 3.0, 0.0031)}, wanted)  # type: ignore[arg-type]
        assert str(choice) == "h fp32: int8 3.00 times as fast, loses 0.31 ± 0.10 points, allowed are 0.3"


def test_a_slow_one_only_where_it_is_asked_for() -> None:
    found = {"a": figures("a", 1.05, 0.0)}
    assert _choice("h", found, "int8").precision == "int8"
    slow = _choice("h", found, "auto")
    assert (slow.precision, slow.figures) == ("fp32", found["a"])
    assert "is only 1.05 times as fast" in slow.reason


@pytest.fixture
def two_widths(make_network: Callable[..., SplitNetwork], quarters: ImageSet) -> SplitNetwork:
    network = make_network(widths=(0.5, 1.0), exit_channels=0)
    network.calibrate([torch.from_numpy(quarters.images)])
    return network.eval()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bundle_ships_what_was_chosen_and_its_tables_and_points_are_of_that(
    two_widths: SplitNetwork, quarters: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.models.head_choice.MAX_LOSS", 1.0)
    bundle = export_bundle(
        two_widths, tmp_path / "bundle", train=quarters, heads="int8", facts={"held_out": "40"}
    )
    told = bundle.manifest.provenance["heads"].split("; ")
    assert [part.split(":")[0] for part in told] == ["heads/w050.onnx int8", "heads/w100.onnx int8"]
    assert all(b"QuantizeLinear" in bundle.read(f"heads/w{width}.onnx") for width in ("050", "100"))
    networks = open_networks(bundle.manifest, bundle.manifest.files, bundle.read, threads=1)
    fitting, _ = hold_out(quarters, 40)
    latents = [head.run(fitting.images) for head in networks.heads]
    assert FrequencyTables.fit(latents).to_bytes() == bundle.read("tables.npz")
    with torch.no_grad():
        in_float = two_widths.materialise_head(1)(torch.from_numpy(fitting.images)).numpy()
    assert not np.array_equal(latents[1], in_float), "integer heads give slightly other codes"


@pytest.mark.timeout(300)
def test_a_head_of_another_kind_stays_in_32_bits(
    two_widths: SplitNetwork, quarters: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_more: object) -> None:
        raise InputError("its last layer is a Linear")

    monkeypatch.setattr(head_choice, "write_int8_head", refuse)
    bundle = export_bundle(two_widths, tmp_path / "bundle", train=quarters, heads="auto")
    told = bundle.manifest.provenance["heads"].split("; ")
    assert told[0] == "heads/w050.onnx fp32: no int8: its last layer is a Linear"
    assert len(told) == 2
    assert b"QuantizeLinear" not in bundle.read("heads/w100.onnx")
