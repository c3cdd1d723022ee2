"""Run in KServe's environment: its client, beside our stubs in one process, asks our server.

Triton's client cannot be there as well: its messages and KServe's clash with each other.

`python kserve_client.py HOST:PORT LATENTS.npy` prints what they answered as one JSON object.
"""

import asyncio
import json
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

from isthmus.runtime.wire import InferenceStub, latent_request, parse_answer


async def _ask_kserve(address, latents):
    async with InferenceGRPCClient(address) as client:
        tensor = InferInput(name="latent", shape=list(latents.shape), datatype="UINT8")
        tensor.set_data_from_numpy(latents, binary_data=True)
        answer = await client.infer(InferRequest(model_name="tiny", infer_inputs=[tensor], request_id="k1"))
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model": await client.is_model_ready("tiny"),
            "id": answer.id,
            "outputs": answer.outputs[0].as_numpy().tolist(),
        }


def _ask_ours(address, latents):
    with grpc.insecure_channel(address) as channel:
        request = latent_request(model="tiny", frame_id="o1", latent_nchw=latents, budget_us=None)
        return {"outputs": parse_answer(InferenceStub(channel).ModelInfer(request)).outputs_nc.tolist()}


if __name__ == "__main__":
    where, file = sys.argv[1:]
    asked = np.load(file)
    print(
        json.dumps(
            {
                "kserve": asyncio.run(_ask_kserve(where, asked)),
                "ours": _ask_ours(where, asked),
            }
        )
    )
