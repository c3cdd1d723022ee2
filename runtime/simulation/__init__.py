"""The agent on a virtual clock: one device over a link, or a fleet of them."""
