"""What an operator sees of an agent: status, temperature, service manager, the link to a server."""
