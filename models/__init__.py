"""Backbones, slimmable bottlenecks, training and export: the only room that imports torch."""
