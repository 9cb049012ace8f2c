"""The machines of a Ray cluster: the connection, a worker's needs, and what is shipped there."""
