"""LitServe with a tail: `litserve_app.py TAIL.onnx PORT MAX_BATCH`, run by the Python of its own environment.

A request is JSON, which LitServe reads by itself, with the latent in base64; its answer the float32 scores.
"""

import base64
import sys

import litserve  # type: ignore[import-not-found]
import numpy as np
import onnxruntime as ort
from fastapi import Response  # type: ignore[import-not-found]

_WINDOW_S = 0.001


class TailApi(litserve.LitAPI):  # type: ignore[misc]
    """The tail of one bundle."""

    def __init__(self, tail: str, max_batch: int) -> None:
        # Without a window its loop asks for work without a pause, which takes the whole core.
        super().__init__(max_batch_size=max_batch, batch_timeout=_WINDOW_S)
        self._tail = tail

    def setup(self, device: str) -> None:
        """Open the network."""
        self._session = ort.InferenceSession(self._tail, providers=["CPUExecutionProvider"])
        (given,) = self._session.get_inputs()
        self._input, self._chw = given.name, given.shape[1:]

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        """Return the latent of one request."""
        return np.frombuffer(base64.b64decode(request["latent"]), np.uint8).reshape(self._chw)

    def predict(self, latents: np.ndarray) -> np.ndarray:
        """Return the scores of a batch."""
        (scores,) = self._session.run(None, {self._input: latents})
        return scores

    def encode_response(self, output: np.ndarray) -> Response:
        """Return the answer of one request."""
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    api = TailApi(sys.argv[1], int(sys.argv[3]))
    server = litserve.LitServer(api, accelerator="cpu", timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False)
