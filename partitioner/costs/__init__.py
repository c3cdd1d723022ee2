"""What a network costs on a machine: measured node by node and half by half, or estimated."""
