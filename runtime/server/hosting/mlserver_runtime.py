"""Run tail.onnx, beside this file, in MLServer, whose own runtimes have none for ONNX.

Needs numpy and onnxruntime in MLServer's environment. Frames come one call each: MLServer's stream is of
another kind than Triton's, and agents do not use it.
"""

import asyncio

import numpy as np
import onnxruntime as ort
from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.errors import InferenceError  # type: ignore[import-not-found]
from mlserver.types import (  # type: ignore[import-not-found]
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    Parameters,
    ResponseOutput,
)
from mlserver.utils import get_model_uri  # type: ignore[import-not-found]


class TailRuntime(MLModel):  # type: ignore[misc]
    """The tail of one bundle."""

    async def load(self) -> bool:
        """Open the network."""
        path = await get_model_uri(self.settings)
        self._session = ort.InferenceSession(path, providers=ort.get_available_providers())
        return True

    async def metadata(self) -> MetadataModelResponse:
        """Describe the model, with the bundle that it is."""
        described = await super().metadata()
        described.parameters = Parameters(**self.settings.parameters.extra)
        return described

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the latents of one request."""
        (wanted,), (scores,) = self.inputs, self.outputs
        if len(payload.inputs) != 1 or payload.inputs[0].name != wanted.name:
            raise InferenceError(f"send exactly one input, '{wanted.name}'")
        tensor = payload.inputs[0]
        if tensor.datatype != wanted.datatype or list(tensor.shape[1:]) != list(wanted.shape[1:]):
            raise InferenceError(
                f"input '{wanted.name}': {tensor.datatype} {list(tensor.shape)}, "
                f"it must be {wanted.datatype} [n, {', '.join(map(str, wanted.shape[1:]))}]"
            )
        values = getattr(tensor.data, "root", tensor.data)
        latents = np.asarray(values, np.uint8).reshape(tensor.shape)
        # Off the event loop, which is to go on answering whether the server is there.
        (answer,) = await asyncio.to_thread(self._session.run, [scores.name], {wanted.name: latents})
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[
                ResponseOutput(
                    name=scores.name,
                    shape=list(answer.shape),
                    datatype=scores.datatype,
                    data=answer.ravel().tolist(),
                )
            ],
        )
