"""A runtime of MLServer that looks at its input and answers zeros, as our null tail does."""

import numpy as np
from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput  # type: ignore[import-not-found]


class NullRuntime(MLModel):  # type: ignore[misc]
    """A tail that takes no time."""

    async def load(self) -> bool:
        """Make the answer."""
        self._scores = [0.0] * 10
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        tensor = payload.inputs[0]
        np.asarray(getattr(tensor.data, "root", tensor.data), np.uint8).reshape(tensor.shape)
        scores = ResponseOutput(name="logits", shape=[1, 10], datatype="FP32", data=self._scores)
        return InferenceResponse(id=payload.id, model_name=self.name, model_version="1", outputs=[scores])
