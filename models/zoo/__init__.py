"""Trained bottlenecks that come with the package, without the weights of the networks they belong to."""

from isthmus.models.zoo.entry import entry_names, load_entry, write_entry

__all__ = ["entry_names", "load_entry", "write_entry"]
