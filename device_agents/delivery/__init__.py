"""Results on their way to whoever wants them."""
