"""The machines of a Ray cluster: the connection, what a worker needs, what goes along."""
