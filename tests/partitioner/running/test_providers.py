import onnxruntime
import pytest

from isthmus.partitioner.running.execution import open_session, session_options
from isthmus.partitioner.running.providers import CPU, backend_of, choose_provider
from isthmus.runtime.errors import InputError


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this ONNX Runtime was built for CUDA; whether a GPU starts is another matter."""
    present = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: present)


def test_without_a_gpu_build_auto_is_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert choose_provider("auto") == choose_provider("cpu") == CPU


@pytest.mark.usefixtures("gpu_build")
def test_with_a_gpu_build_auto_is_cuda() -> None:
    assert choose_provider("auto") == choose_provider("cuda") == ("CUDAExecutionProvider", *CPU)
    assert choose_provider("cpu") == CPU


@pytest.mark.usefixtures("gpu_build")
def test_a_provider_that_is_not_built_in_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^provider 'tensorrt': this ONNX Runtime has CUDAExecution"):
        choose_provider("tensorrt")


def test_a_provider_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^provider 'tpu' is none of auto, cpu, cuda, tensorrt$"):
        choose_provider("tpu")


def test_the_backend_names_version_and_provider() -> None:
    assert backend_of(CPU) == f"ONNX Runtime {onnxruntime.__version__}, CPUExecutionProvider"


def test_a_provider_that_silently_falls_back_is_refused(residual_model, monkeypatch) -> None:
    """Without CUDA's libraries ONNX Runtime warns and computes on the processor: no profile of a GPU."""
    real = onnxruntime.InferenceSession

    def on_the_processor(model, options, providers):
        return real(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", on_the_processor)
    with pytest.raises(InputError, match="CUDAExecutionProvider does not start here, ONNX Runtime would use"):
        open_session(residual_model(), "net", session_options(1), providers=("CUDAExecutionProvider", *CPU))
