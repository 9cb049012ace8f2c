"""The driver of a sweep: it hands shards to workers and keeps the record."""
