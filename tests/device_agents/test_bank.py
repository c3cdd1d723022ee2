"""The width bank against plain ONNX Runtime sessions of the same files."""

import shutil

import numpy as np
import onnxruntime as ort
import pytest

from isthmus.device_agents.bank import WidthBank
from isthmus.runtime.bundle import EXIT, LOCAL, head_name, load_bundle, write_manifest
from isthmus.runtime.errors import BundleError, InputError


@pytest.fixture(scope="module")
def bank(tiny):
    return WidthBank(tiny)


@pytest.fixture(scope="module")
def reference(tiny):
    def run(name, value):
        session = ort.InferenceSession(tiny.read(name), providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: value[np.newaxis]})[0][0]

    return run


def test_every_width_gives_what_its_own_file_gives(tiny, bank, reference, tiny_images):
    image = tiny_images[0][3]
    latents = []
    for index, width in enumerate(tiny.manifest.widths):
        latent, seconds = bank.head(index, image)
        assert latent.dtype == np.uint8
        assert seconds > 0
        np.testing.assert_array_equal(latent, reference(head_name(width), image))
        latents.append(latent)
    # Alternating must not mix widths up, and would not show if all widths gave the same.
    assert not np.array_equal(latents[0], latents[3])
    for index in (3, 0, 3, 1, 2, 0):
        np.testing.assert_array_equal(bank.head(index, image)[0], latents[index])


def test_the_device_answers_as_exit_and_local_do(bank, reference, tiny_images):
    for image in tiny_images[0][:9]:
        latent, _ = bank.head(1, image)
        assert bank.exit(latent)[0] == reference(EXIT, latent).argmax()
        assert bank.local(image)[0] == reference(LOCAL, image).argmax()


def test_what_is_measured_is_known_before_the_first_frame(bank, tiny):
    assert set(bank.head_s) == set(range(len(tiny.manifest.widths)))
    assert all(0 < seconds < 1 for seconds in bank.head_s.values())
    assert bank.exit_s is not None
    assert bank.local_s is not None
    assert bank.provider == "CPUExecutionProvider"


def test_a_bundle_may_lack_exit_and_local(serverless_mute):
    bank = WidthBank(serverless_mute)
    assert bank.exit_s is None
    assert bank.local_s is None


@pytest.fixture
def altered(tiny, tmp_path):
    """Return a function that replaces a file of the bundle and signs the result."""

    def make(name, content):
        root = tmp_path / "altered"
        shutil.copytree(tiny.root, root)
        (root / name).write_bytes(content)
        write_manifest(root, tiny.manifest)
        return load_bundle(root)

    return make


def test_a_head_that_is_no_network_is_refused_by_name(altered):
    with pytest.raises(BundleError, match=r"heads/w050\.onnx: ONNX Runtime cannot run it .*export"):
        WidthBank(altered("heads/w050.onnx", b"no protobuf at all"))


def test_a_network_of_another_shape_is_refused(altered, tiny):
    with pytest.raises(BundleError, match=r"heads/w100\.onnx: gives \(3,\), not \(4, 4, 4\)"):
        WidthBank(altered("heads/w100.onnx", tiny.read(LOCAL)))


def test_a_network_with_another_input_is_refused(altered, tiny):
    with pytest.raises(BundleError, match=r"heads/w025\.onnx: ONNX Runtime cannot run it"):
        WidthBank(altered("heads/w025.onnx", tiny.read(EXIT)))


def test_what_this_machine_lacks_is_said(tiny):
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        with pytest.raises(InputError, match=r"provider cuda: this ONNX Runtime has .*CPUExecutionProvider"):
            WidthBank(tiny, provider="cuda")
    with pytest.raises(InputError, match="provider 'gpu'"):
        WidthBank(tiny, provider="gpu")
    with pytest.raises(InputError, match="threads 0"):
        WidthBank(tiny, threads=0)


@pytest.fixture
def refusing(monkeypatch):
    """Return `refuse(accepts)`: an XNNPACK that takes only the files for which `accepts(content)` holds."""
    real = ort.InferenceSession

    def refuse(accepts):
        class Session:
            def __init__(self, content, options, *, providers, provider_options):
                self.wanted = providers[0]
                if self.wanted == "XnnpackExecutionProvider":
                    assert provider_options[0] == {"intra_op_num_threads": "1"}
                    if not accepts(content):
                        raise RuntimeError("kernel not found for a node\nmore")
                self.session = real(content, options, providers=["CPUExecutionProvider"])

            def __getattr__(self, name):
                return getattr(self.session, name)

            def get_providers(self):
                return [self.wanted, "CPUExecutionProvider"]

        monkeypatch.setattr(ort, "InferenceSession", Session)
        monkeypatch.setattr(
            ort, "get_available_providers", lambda: ["XnnpackExecutionProvider", "CPUExecutionProvider"]
        )

    return refuse


def test_a_head_that_the_provider_refuses_runs_on_the_cpu_and_that_is_said(tiny, refusing, tiny_images):
    widest = tiny.read(head_name(1.0))
    plain = WidthBank(tiny)
    refusing(lambda content: content != widest)
    bank = WidthBank(tiny, provider="xnnpack")
    assert bank.provider == "XnnpackExecutionProvider"
    assert bank.notes == (
        "heads/w100.onnx runs on CPUExecutionProvider: XnnpackExecutionProvider refused it "
        "(kernel not found for a node)",
    )
    image = tiny_images[0][0]
    np.testing.assert_array_equal(bank.head(3, image)[0], plain.head(3, image)[0])


def test_a_provider_that_takes_no_head_at_all_is_refused(tiny, refusing):
    refusing(lambda content: False)
    with pytest.raises(InputError, match=r"provider xnnpack: it takes no head .*refused it.*give cpu"):
        WidthBank(tiny, provider="xnnpack")


def test_every_network_that_runs_as_asked_is_silent(tiny):
    assert WidthBank(tiny, provider="cpu").notes == ()
