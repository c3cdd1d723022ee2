"""The networks that can be cut: ours by name, the user's by file, and their weights."""

from isthmus.models.backbones.registry import MODELS, make_model
from isthmus.models.backbones.weights import load_weights

__all__ = ["MODELS", "load_weights", "make_model"]
