"""Write a model folder that MLServer serves: its settings, the tail, and the runtime that runs it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus.runtime.bundle import TAIL, Bundle
from isthmus.runtime.server.hosting.forms import TailForms, read_forms
from isthmus.runtime.server.hosting.writing import copy_module, write_files
from isthmus.runtime.wire import BUNDLE

# The module's name in MLServer's process, where it stands beside other models' modules.
_RUNTIME = "isthmus_tail"


def write_mlserver_folder(bundle: Bundle, folder: Path) -> Path:
    """Write `bundle` into the model directory `folder`, beside other models there; return its own directory.

    `mlserver start FOLDER` serves all of them.

    Args:
        bundle: What to serve; the model has its name.
        folder: Made if it is not there. A model of the same name is replaced.

    Raises:
        BundleError: If the tail cannot be served by other servers.
        InputError: If the folder cannot be written.
    """
    forms = read_forms(bundle)
    settings = msgspec.json.format(msgspec.json.encode(mlserver_settings(bundle, forms)), indent=2)
    return write_files(
        folder / bundle.manifest.name,
        {
            "model-settings.json": settings + b"\n",
            f"{_RUNTIME}.py": copy_module("mlserver_runtime"),
            TAIL: forms.tail,
        },
    )


def mlserver_settings(bundle: Bundle, forms: TailForms) -> dict[str, object]:
    """Return MLServer's settings of the tail of `bundle`.

    Its adaptive batching stays off: it waits a fixed time for more frames, which costs every lone one
    milliseconds.
    """
    return {
        "name": bundle.manifest.name,
        "implementation": f"{_RUNTIME}.TailRuntime",
        "platform": "isthmus_bundle",
        "versions": ["1"],
        "inputs": [{"name": forms.input, "datatype": "UINT8", "shape": [-1, *forms.chw]}],
        "outputs": [{"name": forms.output, "datatype": "FP32", "shape": [-1, forms.classes]}],
        "parameters": {"uri": f"./{TAIL}", "version": "1", "extra": {BUNDLE: bundle.digest}},
    }
