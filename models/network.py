"""The split network as other modules import it: facts, module and checkpoint."""

from isthmus.models.checkpoint import CHECKPOINT_NAME, load_checkpoint, save_checkpoint
from isthmus.models.config import ZERO_POINT, SplitConfig
from isthmus.models.split_network import Normalise, SplitNetwork, tensor_digest

__all__ = [
    "CHECKPOINT_NAME",
    "ZERO_POINT",
    "Normalise",
    "SplitConfig",
    "SplitNetwork",
    "load_checkpoint",
    "save_checkpoint",
    "tensor_digest",
]
