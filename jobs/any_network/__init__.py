"""Exact Z-IL on any network: how far every rule is from backpropagation, and what it costs."""
