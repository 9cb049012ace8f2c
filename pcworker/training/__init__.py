"""The training of a shard: its epochs, its metrics, its checkpoints."""
