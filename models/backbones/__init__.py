"""The networks that can be cut: ours by name, the user's by file, and their weights."""

from isthmus.models.backbones.catalogue import MODELS, Backbone
from isthmus.models.backbones.random_weights import randomise
from isthmus.models.backbones.registry import make_model
from isthmus.models.backbones.weights import load_weights

__all__ = ["MODELS", "Backbone", "load_weights", "make_model", "randomise"]
