"""Where to cut a network, and what that gains."""
