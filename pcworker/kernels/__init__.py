"""What trains a shard of trials bit for bit as each would be trained alone."""
