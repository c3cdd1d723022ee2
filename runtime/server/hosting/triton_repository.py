"""Write a model repository that Triton serves.

`DIR/NAME/config.pbtxt`, `labels.txt` and `1/` with the model. The onnxruntime backend reads the ONNX file by
itself; where a Triton has only the Python backend, `triton_model.py` runs the same file with the onnxruntime
of the Python environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from google.protobuf import text_format

from isthmus.runtime.bundle import TAIL, Bundle
from isthmus.runtime.errors import InputError
from isthmus.runtime.server.hosting.forms import TailForms, read_forms
from isthmus.runtime.server.hosting.writing import copy_module, write_files
from isthmus.runtime.wire import BUNDLE, oip

TritonBackend = Literal["onnxruntime", "python"]

_LABELS = "labels.txt"
_HEADER = """\
# Bundle '{name}' of Isthmus, served by Triton. Written by 'isthmus export --triton'.
#
# Triton runs a batch as soon as an instance is free and waits for no other frame. A frame that finds the
# queue full is refused (UNAVAILABLE); agents take that for "busy". A default timeout would make Triton stall.
"""


def write_triton_repository(
    bundle: Bundle,
    folder: Path,
    *,
    backend: TritonBackend = "onnxruntime",
    max_batch: int = 32,
    queue_frames: int = 256,
) -> Path:
    """Write `bundle` into the model repository `folder`, beside other models there; return its directory.

    Args:
        bundle: What to serve; the model has its name.
        folder: The repository, made if it is not there. A model of the same name is replaced.
        backend: Triton's backend.
        max_batch: Most latents of a batch.
        queue_frames: Most frames that wait.

    Raises:
        BundleError: If the tail cannot be served by other servers.
        InputError: If a number is out of range, or the folder cannot be written.
    """
    if not 1 <= max_batch <= 4096 or not max_batch <= queue_frames <= 1_000_000:
        raise InputError(
            f"max batch {max_batch}, queue {queue_frames}: give a batch of 1 to 4096 and a queue no shorter"
        )
    forms = read_forms(bundle)
    config = triton_config(bundle, forms, backend=backend, max_batch=max_batch, queue_frames=queue_frames)
    text = _HEADER.format(name=bundle.manifest.name) + text_format.MessageToString(config)
    files = {
        "config.pbtxt": text.encode("utf-8"),
        _LABELS: "".join(f"{label}\n" for label in bundle.manifest.labels).encode("utf-8"),
    }
    if backend == "python":
        files |= {f"1/{TAIL}": forms.tail, "1/model.py": copy_module("triton_model")}
    else:
        files |= {"1/model.onnx": forms.tail}
    return write_files(folder / bundle.manifest.name, files)


def triton_config(
    bundle: Bundle, forms: TailForms, *, backend: TritonBackend, max_batch: int, queue_frames: int
) -> oip.ModelConfig:
    """Return Triton's configuration of the tail of `bundle`."""
    policy = oip.ModelQueuePolicy(timeout_action=oip.ModelQueuePolicy.REJECT, max_queue_size=queue_frames)
    return oip.ModelConfig(
        name=bundle.manifest.name,
        backend=backend,
        max_batch_size=max_batch,
        input=[oip.ModelInput(name=forms.input, data_type=oip.TYPE_UINT8, dims=forms.chw)],
        output=[
            oip.ModelOutput(
                name=forms.output,
                data_type=oip.TYPE_FP32,
                dims=[forms.classes],
                label_filename=_LABELS,
            )
        ],
        dynamic_batching=oip.ModelDynamicBatching(default_queue_policy=policy),
        parameters={BUNDLE: oip.ModelParameter(string_value=bundle.digest)},
    )
