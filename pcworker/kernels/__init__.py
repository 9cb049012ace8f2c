"""The kernels: each trains a shard so that every trial has the bits that it has alone."""
