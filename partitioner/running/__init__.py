"""Run networks on this machine and time them side by side."""
