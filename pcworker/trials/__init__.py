"""The values that are trained: configurations, trials, and digests of their weights."""
