"""What `profiler` measures with."""
