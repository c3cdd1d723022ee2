"""What a machine is: how fast, how much memory, how many watts, and where each figure came from."""
