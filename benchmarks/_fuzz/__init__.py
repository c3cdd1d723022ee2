"""Inputs made to break what reads a peer's bytes, and what is asked of whoever reads them; see `fuzz.py`."""
