"""A bundle's tail on other servers of the protocol: what Triton and MLServer need on their disks.

Decides how each of them is told of the model. What they host takes plain latents; only our own server decodes
payloads. `triton_model` and `mlserver_runtime` are copied to them, and import nothing of ours.
"""

from isthmus.runtime.server.hosting.mlserver_folder import write_mlserver_folder
from isthmus.runtime.server.hosting.triton_repository import TritonBackend, write_triton_repository

__all__ = ["TritonBackend", "write_mlserver_folder", "write_triton_repository"]
