"""Run tail.onnx, beside this file, in Triton's Python backend.

For a Triton without its onnxruntime backend. Needs numpy and onnxruntime in the backend's Python. Triton
gathers the requests of a batch; here their rows become one run of the network.
"""

import json
import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args):  # type: ignore[no-untyped-def]
        """Open the network; `args` is what Triton says of the model."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        config = json.loads(args["model_config"])
        (self._input,) = (tensor["name"] for tensor in config["input"])
        (self._output,) = (tensor["name"] for tensor in config["output"])
        self._session = ort.InferenceSession(
            os.path.join(folder, "tail.onnx"), providers=ort.get_available_providers()
        )

    def execute(self, requests):  # type: ignore[no-untyped-def]
        """Return one response per request; all their latents go through the network together."""
        latents = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        try:
            (scores,) = self._session.run([self._output], {self._input: np.concatenate(latents)})
        except Exception as error:
            failed = pb_utils.TritonError(f"the tail failed: {error}")
            return [pb_utils.InferenceResponse(error=failed) for _ in requests]
        parts = np.split(scores, np.cumsum([len(latent) for latent in latents])[:-1])
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(self._output, part)]) for part in parts
        ]
