from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.runtime.bundle import EXIT, GOLDEN, LOCAL, TABLES, TAIL, head_name, load_bundle
from isthmus.runtime.codecs import coder_backend
from isthmus.runtime.errors import BundleError
from isthmus.runtime.golden import verify

Golden = dict[str, NDArray[Any]]
Alter = Callable[..., None]


def test_vectors_are_reproduced_and_are_not_degenerate(tiny_bundle: Path, golden_arrays: Golden) -> None:
    report = verify(load_bundle(tiny_bundle))
    assert report.images == 4
    assert report.payloads == 4 * 12 * 2  # images, operating points, codecs
    assert report.symbols_off == 0
    assert report.output_error < 1e-6
    for name, array in golden_arrays.items():
        if name.startswith(("latents", "outputs", "exit", "local")):
            assert np.ptp(array, axis=0).max() > 0, f"{name} is the same for every image"


@pytest.fixture
def portable_coder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make `rans` run on numpy, as in a process started with ISTHMUS_RANS=numpy."""
    monkeypatch.setenv("ISTHMUS_RANS", "numpy")
    coder_backend.cache_clear()
    yield
    monkeypatch.undo()
    coder_backend.cache_clear()


@pytest.mark.usefixtures("portable_coder")
def test_the_portable_coder_reproduces_the_same_bytes(tiny_bundle: Path) -> None:
    report = verify(load_bundle(tiny_bundle))
    assert report.coder == "numpy"
    assert report.payloads == 96


@pytest.mark.parametrize("codec", ["rans", "raw"])
def test_one_flipped_payload_bit_is_found(
    codec: str, own_bundle: Path, alter_golden: Alter, golden_arrays: Golden
) -> None:
    payloads = golden_arrays[f"{codec}_1_2"].copy()
    payloads[len(payloads) // 2] ^= 1
    alter_golden(**{f"{codec}_1_2": payloads})
    with pytest.raises(BundleError, match=rf"{codec} encodes {codec}_1_2 to other bytes"):
        verify(load_bundle(own_bundle))


def test_one_level_in_few_symbols_is_rounding_more_is_not(
    own_bundle: Path, alter_golden: Alter, golden_arrays: Golden
) -> None:
    latents = golden_arrays["latents_3"]
    few, many, far = latents.copy(), latents.copy(), latents.copy()
    few.reshape(-1)[0] += 1
    many.reshape(-1)[:20] += 1
    far.reshape(-1)[0] += 2
    for altered, message in (
        (many, r"7\.81% of the golden symbols differ, by up to 1 levels"),
        (far, "up to 2 levels"),
    ):
        alter_golden(latents_3=altered)
        with pytest.raises(BundleError, match=message):
            verify(load_bundle(own_bundle))
    alter_golden(latents_3=few)
    with pytest.raises(
        BundleError, match="to other bytes"
    ):  # the head passed, the payloads are of another latent
        verify(load_bundle(own_bundle))


@pytest.mark.parametrize("name", ["outputs_0_1", "exit_2", "local"])
def test_outputs_have_a_tolerance(
    name: str, own_bundle: Path, alter_golden: Alter, golden_arrays: Golden
) -> None:
    output = golden_arrays[name]
    scale = float(np.abs(output).max())
    alter_golden(**{name: output + np.float32(scale * 1e-4)})
    assert 5e-5 < verify(load_bundle(own_bundle)).output_error < 2e-4
    alter_golden(**{name: output + np.float32(scale * 1e-2)})
    with pytest.raises(BundleError, match=rf"{name} differs by 0\.0"):
        verify(load_bundle(own_bundle))
    alter_golden(**{name: np.full_like(output, np.nan)})
    with pytest.raises(BundleError, match=f"{name} differs by nan"):
        verify(load_bundle(own_bundle))


@pytest.mark.parametrize(
    "name", ["images_nhwc", "latents_0", "outputs_3_4", "rans_0_1", "raw_0_1_lengths", "exit_0"]
)
def test_a_missing_array_is_named(name: str, own_bundle: Path, alter_golden: Alter) -> None:
    alter_golden(**{name: None})
    with pytest.raises(BundleError, match=rf"golden\.npz: lacks {name}"):
        verify(load_bundle(own_bundle))


def test_arrays_of_another_shape(own_bundle: Path, alter_golden: Alter, golden_arrays: Golden) -> None:
    alter_golden(latents_0=golden_arrays["latents_0"][:, :2])
    with pytest.raises(BundleError, match=r"w025\.onnx: gives uint8 \(4, 4, 4, 4\), the golden latents are"):
        verify(load_bundle(own_bundle))
    alter_golden(latents_0=golden_arrays["latents_0"], outputs_0_1=golden_arrays["outputs_0_1"][:, :2])
    with pytest.raises(BundleError, match=r"outputs_0_1 is \(4, 2\), the network gives \(4, 3\)"):
        verify(load_bundle(own_bundle))
    alter_golden(outputs_0_1=golden_arrays["outputs_0_1"], images_nhwc=golden_arrays["images_nhwc"][:, :8])
    with pytest.raises(BundleError, match=r"heads/w025\.onnx"):
        verify(load_bundle(own_bundle))


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04"])
def test_a_file_that_is_no_archive(content: bytes, own_bundle: Path, seal: Callable[..., None]) -> None:
    (own_bundle / GOLDEN).write_bytes(content)
    seal(own_bundle)
    with pytest.raises(BundleError, match="not a golden archive"):
        verify(load_bundle(own_bundle))


def test_pickled_arrays_are_refused(own_bundle: Path, seal: Callable[..., None]) -> None:
    np.savez(own_bundle / GOLDEN, images_nhwc=np.array([print], dtype=object))
    seal(own_bundle)
    with pytest.raises(BundleError, match="not a golden archive"):
        verify(load_bundle(own_bundle))


@pytest.mark.parametrize("name", [head_name(0.5), TAIL, EXIT, LOCAL])
def test_a_network_that_cannot_be_loaded_is_named(
    name: str, own_bundle: Path, seal: Callable[..., None]
) -> None:
    (own_bundle / name).write_bytes(b"\x08\x07 not a network")
    seal(own_bundle)
    with pytest.raises(BundleError, match=rf"{name}: ONNX Runtime cannot load it"):
        verify(load_bundle(own_bundle))


def test_another_head_in_the_right_place_is_found(own_bundle: Path, seal: Callable[..., None]) -> None:
    shutil.copy(own_bundle / head_name(0.25), own_bundle / head_name(1.0))
    seal(own_bundle)
    with pytest.raises(BundleError, match=r"w100\.onnx: .* of the golden symbols differ"):
        verify(load_bundle(own_bundle))


def test_tables_of_another_bundle_are_found(
    own_bundle: Path, seal: Callable[..., None], make_tiny_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    other = make_tiny_bundle(tmp_path / "other", seed=5)
    shutil.copy(other / TABLES, own_bundle / TABLES)
    seal(own_bundle)
    with pytest.raises(BundleError, match=r"tables\.npz: id [0-9a-f]{16}, manifest\.json names"):
        verify(load_bundle(own_bundle))
