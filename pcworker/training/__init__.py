"""The training of a shard: epochs, measures, checkpoints."""
