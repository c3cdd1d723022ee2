"""The server: hosts the tails of bundles, batches many agents' latents, answers over gRPC.

Decides batching, limits and how a stop loses nothing. Knows nothing of how clients choose their operating
points.
"""

from isthmus.runtime.server.app import DrainReport, ReadyReport, TailServer, run_until
from isthmus.runtime.server.backend import OnnxRuntimeBackend, TailBackend
from isthmus.runtime.server.config import ServerConfig

__all__ = [
    "DrainReport",
    "OnnxRuntimeBackend",
    "ReadyReport",
    "ServerConfig",
    "TailBackend",
    "TailServer",
    "run_until",
]
