"""The way to the servers: connections, failover, and the frames on their way."""
