"""What a tail takes and gives, read from the ONNX file itself."""

from __future__ import annotations

from dataclasses import dataclass

import onnxruntime as ort

from isthmus.runtime.bundle import TAIL, Bundle
from isthmus.runtime.errors import BundleError


@dataclass(frozen=True, slots=True, kw_only=True)
class TailForms:
    """The tensors of a tail without their first dimension, the frames of a batch.

    Attributes:
        tail: The ONNX model's bytes.
        input: Name of the latent tensor, uint8 `chw`.
        output: Name of the scores, float32 [`classes`].
        chw: Channels, height and width of a latent.
        classes: How many scores a latent gets.
    """

    tail: bytes
    input: str
    output: str
    chw: tuple[int, int, int]
    classes: int


def read_forms(bundle: Bundle) -> TailForms:
    """Return the forms of the tail of `bundle`.

    Raises:
        BundleError: If the tail cannot be opened, or batches of any size do not fit it.
    """
    where, tail = bundle.root / TAIL, bundle.read(TAIL)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(tail, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base of their own
        text = " ".join(str(error).split())
        raise BundleError(f"{where}: ONNX Runtime cannot open it: {text}; export the bundle again") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or isinstance(inputs[0].shape[0], int):
        raise BundleError(
            f"{where}: {len(inputs)} inputs, {len(outputs)} outputs, first shape {inputs[0].shape}; "
            "other servers need one input and one output with a first dimension that varies: export again"
        )
    latent = bundle.manifest.latent
    return TailForms(
        tail=tail,
        input=inputs[0].name,
        output=outputs[0].name,
        chw=(latent.channels, latent.height, latent.width),
        classes=len(bundle.manifest.labels),
    )
