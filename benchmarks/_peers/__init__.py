"""Servers of other makers, floors, and ours, each a process on loopback, and clients that load them."""
